-- th cifar.lua NETWORKS TEST FOLDER: writes FOLDER/cifar-convnet-bn_lua_outputs.t7.
-- NETWORKS is fixtures/cifar. Its network was trained on 50,000 images, of which cifar_meanStd.t7
-- holds the mean and the deviation; the script that trained it is not kept, and other seeds would
-- give other weights. TEST is a .t7 file {data, label} of 5,000 test images.
require 'nn'
local networks, test, folder = arg[1], torch.load(arg[2]), arg[3]
torch.setdefaulttensortype('torch.FloatTensor')
local model = torch.load(networks .. '/cifar-convnet-bn.t7')
local statistics = torch.load(networks .. '/cifar_meanStd.t7')
model:evaluate()
local first, correct, log_probabilities = 500, 0, nil
local count = test.data:size(1)
for start = 1, count, first do
   local images = test.data:narrow(1, start, first):float()
   for channel = 1, 3 do
      images:select(2, channel):add(-statistics.mean[channel]):div(statistics.std[channel])
   end
   local output = model:forward(images)
   log_probabilities = log_probabilities or output:clone()
   local _, best = output:max(2)
   correct = correct + best:view(-1):eq(test.label:narrow(1, start, first):long()):sum()
end
torch.save(folder .. '/cifar-convnet-bn_lua_outputs.t7', {
   first = first, log_probabilities = log_probabilities, ['test_accuracy_' .. count] = correct / count,
})
