-- th recompute.lua FILE...: lets Torch7 compute the cases of fixtures again, and compares.
--
-- FILE is a list of cases, one case, or NAME_io.t7 beside NAME.t7. Modules that draw random numbers
-- are left out. Exits with 1 if an output differs by more than 1e-6 of the largest, or a gradient
-- by more than 1e-5.
require 'nn'
for _, package in ipairs{'nngraph', 'dpnn', 'rnn', 'stn', 'inn', 'nnx'} do pcall(require, package) end

local function tensors(value, found)
   if torch.isTensor(value) then found[#found + 1] = value:double()
   elseif type(value) == 'number' then found[#found + 1] = torch.DoubleTensor{value}
   elseif type(value) == 'table' then for _, item in ipairs(value) do tensors(item, found) end end
   return found
end

-- The largest difference, relative to the larger of 1 and the largest expected value.
local function difference(actual, expected)
   local ours, theirs, worst = tensors(actual, {}), tensors(expected, {}), 0
   if #ours ~= #theirs then return math.huge end
   for i, want in ipairs(theirs) do
      local have = ours[i]
      if have:nElement() ~= want:nElement() then return math.huge end
      if want:nElement() > 0 then
         have, want = have:contiguous():view(-1), want:contiguous():view(-1)
         local finite = want:eq(want):cmul(want:clone():abs():lt(1e300))
         if finite:sum() > 0 then
            have, want = have[finite], want[finite]
            worst = math.max(worst, (have - want):abs():max() / math.max(1, want:clone():abs():max()))
         end
      end
   end
   return worst
end

local count, left_out, failed = 0, 0, {}
local function check(file, case)
   local name = file:match('[^/]*$') .. ' ' .. (case.name or '')
   local module = case.module or case.criterion
   if case.random or not module.forward then left_out = left_out + 1 return end
   torch.manualSeed(0)
   local function compare(part, want, tolerance, compute)
      local ran, have = pcall(compute)
      local worst = ran and difference(have, want) or math.huge
      if worst <= tolerance then return end
      failed[#failed + 1] = ('%s, %s: %s'):format(name, part, ran and worst or tostring(have):gsub('\n.*', ''))
   end
   count = count + 1
   compare('output', case.output, 1e-6, function() return module:forward(case.input, case.target) end)
   -- The package rnn replaces nn.Dropout by one that has no gradient for files of version 1.
   if case.gradInput == nil or case.name == 'Dropout_v1_eval' then return end
   local gradients
   if module.zeroGradParameters then module:zeroGradParameters() gradients = select(2, module:parameters()) end
   compare('gradInput', case.gradInput, 1e-5, function() return module:backward(case.input, case.gradOutput or case.target) end)
   if case.gradParameters then compare('gradParameters', case.gradParameters, 1e-5, function() return gradients end) end
end

for _, file in ipairs(arg) do
   local opened, value = pcall(torch.load, file)
   if not opened then failed[#failed + 1] = file .. ': cannot be opened'
   elseif file:match('_io%.t7$') then check(file, {module = torch.load((file:gsub('_io%.t7$', '.t7'))), input = value.input, output = value.output})
   elseif value.input ~= nil then check(file, value)
   else for _, case in ipairs(value) do check(file, case) end end
end
for _, text in ipairs(failed) do print(text) end
print(('%d cases computed again, %d left out, %d differ'):format(count, left_out, #failed))
os.exit(#failed == 0 and 0 or 1)
