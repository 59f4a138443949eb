-- th random_networks.lua SEED COUNT FILE: COUNT random networks, as cases of record.lua.
--
-- A network is a chain of modules, each of which takes what the one before it gave; one step in four
-- is a pair of branches that are added, multiplied or joined again.
require 'nn'
local here = arg[0]:match('^(.*)/') or '.'
local record, draw = dofile(here .. '/record.lua'), dofile(here .. '/draw.lua')
local cases = record.list(tonumber(arg[1]))

local function branches(input)
   local size = input:size()
   local join = draw.pick(nn.CAddTable, nn.CMulTable, nn.CSubTable, function() return nn.JoinTable(draw.int(1, input:dim())) end)
   local pair = nn.ConcatTable():add(draw.pick(nn.Tanh, nn.Identity)()):add(nn.Sequential():add(nn.CMul(size)):add(nn.Sigmoid()))
   return nn.Sequential():add(pair):add(join()):float()
end

-- The next module of a network, and its output; nil where Torch7 refuses the pair.
local function step(input)
   local module = draw.maybe(0.25) and branches(input) or draw.module(input)
   if not module then return nil end
   module:evaluate()
   local taken, output = pcall(function() return module:forward(input:clone()):clone() end)
   local is_small = taken and output:nElement() > 0 and output:nElement() < 20000
   if is_small and output:dim() <= 5 and output:abs():max() < 1e3 then
      module:clearState()
      return module, module:forward(input:clone()):clone()
   end
end

while #cases < tonumber(arg[2]) do
   local input = draw.tensor(draw.int(1, 5))
   local network, value, length = nn.Sequential(), input, draw.int(2, 8)
   for _ = 1, 4 * length do
      local module, output = step(value)
      if module and network:size() < length then
         network:add(module)
         value = output
      end
   end
   pcall(function() cases:module('network_' .. #cases + 1, network:clearState(), input) end)
end
cases:save(arg[3])
