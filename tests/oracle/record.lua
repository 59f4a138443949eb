-- What Torch7 computes for a module or a criterion, as one case of fixtures/layers.
--
--   local record = dofile('record.lua')
--   local cases = record.list(SEED)
--   cases:module('name', nn.Tanh(), torch.randn(2, 3))
--   cases:criterion('name', nn.MSECriterion(), torch.randn(2, 3), torch.randn(2, 3))
--   cases:save('FILE.t7')
--
-- A module is recorded in evaluation mode, or in the mode that the fourth argument names, as it is
-- before it runs. Gradients stand in a case where Torch7 has them; `gradError` tells why it has none.

local record = {}
local List = {}
List.__index = List

-- The same seed gives the same file, byte for byte.
function record.list(seed)
   torch.setdefaulttensortype('torch.FloatTensor')
   torch.setnumthreads(1)
   torch.manualSeed(seed)
   return setmetatable({}, List)
end

-- A copy that shares nothing with the value: modules hand out their own buffers.
local function copy(value)
   return torch.deserialize(torch.serialize(value))
end

-- Random numbers in the shape of an output, a tensor or a table of them.
local function random_like(value)
   if torch.isTensor(value) then
      return torch.randn(value:size()):typeAs(value)
   end
   local result = {}
   for key, item in ipairs(value) do result[key] = random_like(item) end
   return result
end

function List:module(name, module, input, mode)
   mode = mode or 'eval'
   module:float()  -- some packages create parts of their modules as doubles when they are loaded
   if mode == 'train' then module:training() else module:evaluate() end
   local case = {name = name, class = torch.type(module), mode = mode, module = copy(module), input = copy(input)}
   case.output = copy(module:forward(copy(input)))
   local has_gradient, problem = pcall(function()
      assert(type(case.output) ~= 'number', 'the output is a Lua number')
      local parameters, gradients = module:parameters()
      module:zeroGradParameters()
      local gradOutput = random_like(case.output)
      local gradInput = copy(module:backward(copy(input), copy(gradOutput)))
      case.gradOutput, case.gradInput = gradOutput, gradInput
      if parameters and #parameters > 0 then case.gradParameters = copy(gradients) end
   end)
   if not has_gradient then case.gradError = tostring(problem):gsub('^[^ ]*: ', ''):gsub('\n.*', ''):gsub(' at /.*', '') end
   self[#self + 1] = case
end

function List:criterion(name, criterion, input, target)
   local case = {name = name, class = torch.type(criterion), criterion = copy(criterion), input = copy(input), target = copy(target)}
   case.output = criterion:forward(copy(input), copy(target))
   case.gradInput = copy(criterion:backward(copy(input), copy(target)))
   self[#self + 1] = case
end

function List:save(path)
   torch.save(path, setmetatable(self, nil))
   print(#self .. ' cases in ' .. path)
end

return record
