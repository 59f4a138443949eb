-- th run_written.lua FILE: runs networks that torchlift wrote.
--
-- FILE holds a list {name, module, input, output} that torchlift wrote. Prints `different: NAME: why`
-- for each that Torch7 cannot run or computes differently (1e-5 of the larger of 1 and the largest
-- value), then `N networks ran`.
require 'nn'

local function leaves(value, found)
   if torch.isTensor(value) then found[#found + 1] = value:double():contiguous():view(-1)
   elseif type(value) == 'table' then for _, item in ipairs(value) do leaves(item, found) end end
   return found
end

local networks = torch.load(arg[1])
for _, case in ipairs(networks) do
   local ran, problem = pcall(function()
      local ours, theirs = leaves(case.module:forward(case.input), {}), leaves(case.output, {})
      assert(#ours == #theirs, 'another number of outputs')
      for i = 1, #ours do
         assert(ours[i]:nElement() == theirs[i]:nElement(), 'another size')
         local scale = math.max(1, theirs[i]:clone():abs():max())
         local worst = (ours[i] - theirs[i]):abs():max() / scale
         assert(worst < 1e-5, 'off by ' .. worst)
      end
   end)
   if not ran then print('different: ' .. case.name .. ': ' .. tostring(problem):gsub('\n.*', '')) end
end
print(#networks .. ' networks ran')
