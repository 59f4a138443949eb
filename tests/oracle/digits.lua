-- th digits.lua IMAGES NETWORKS FOLDER: writes the files of fixtures/digits, but for the networks.
-- IMAGES is what digits_images.py wrote. NETWORKS holds the trained digits-lenet5*.t7; the script
-- that trained them is not kept, and other seeds would give other weights.
require 'nn'
local images, networks, folder = arg[1], arg[2], arg[3]
torch.setdefaulttensortype('torch.FloatTensor')
local function save(name, value) torch.save(folder .. '/' .. name .. '.t7', value) end

local count, trained = 1797, 1297
local file = torch.DiskFile(images, 'r'):binary()
local pixels = torch.ByteTensor(file:readByte(count * 32 * 32)):view(count, 1, 32, 32)
local labels = torch.ByteTensor(file:readByte(count))
file:close()
local function part(first, size)
   return {data = pixels:narrow(1, first, size):clone(), label = labels:narrow(1, first, size):clone()}
end
local train, test = part(1, trained), part(trained + 1, count - trained)
local classes = {'zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine'}
local mean, std = train.data:double():mean(), train.data:double():std()
save('digits-train', train)
save('digits-test', test)
save('digits_classes', classes)
save('digits_meanStd', {mean = {mean}, std = {std}})

local function normalized(data) return data:float():add(-mean):div(std) end
local function accuracy(output, label)
   local _, best = output:max(2)
   return best:view(-1):eq(label:long()):sum() / label:nElement()
end
for _, name in ipairs{'digits-lenet5', 'digits-lenet5-bn'} do
   local model = torch.load(networks .. '/' .. name .. '.t7')
   model:evaluate()
   local output = model:forward(normalized(test.data)):clone()
   save(name .. '_lua_outputs', {
      log_probabilities = output, test_accuracy = accuracy(output, test.label),
      train_accuracy = accuracy(model:forward(normalized(train.data)), train.label),
   })
   model:forward(normalized(test.data:narrow(1, 1, 3)))  -- leaves outputs in the layers
   if name == 'digits-lenet5-bn' then
      save(name .. '_uncleared', {
         model = model, epoch = 12, classes = classes, optimState = {learningRate = 0.05, momentum = 0.9},
      })
   end
end
