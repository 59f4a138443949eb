-- th random_modules.lua SEED COUNT FILE: COUNT random modules, as cases of record.lua.
require 'nn'
local here = arg[0]:match('^(.*)/') or '.'
local record, draw = dofile(here .. '/record.lua'), dofile(here .. '/draw.lua')
local cases = record.list(tonumber(arg[1]))
while #cases < tonumber(arg[2]) do
   local input = draw.tensor(draw.int(1, 5))
   -- Torch7 refuses some of the arguments, such as a window larger than the input: draw again.
   pcall(function()
      local module = draw.module(input)
      if module then cases:module(torch.type(module):gsub('.*%.', '') .. '_' .. #cases + 1, module, input) end
   end)
end
cases:save(arg[3])
