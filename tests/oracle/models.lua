-- th models.lua FOLDER: writes FOLDER/NAME.t7 and NAME_io.t7 of fixtures/models, networks with random
-- weights, and what they compute. The gradients in the files are memory that nobody set.
require 'nn'
local folder = arg[1]
torch.setdefaulttensortype('torch.FloatTensor')
torch.manualSeed(99)

-- A chain of layers; a table among them is a chain in it.
local function chain(layers)
   local result = nn.Sequential()
   for _, layer in ipairs(layers) do result:add(torch.type(layer) == 'table' and chain(layer) or layer) end
   return result
end

-- Draw what a training would have left in normalizations, and record an evaluation.
local function write(name, model, input)
   model:apply(function(layer)
      if layer.running_var then
         layer.running_mean:normal(0, 0.1)
         layer.running_var:uniform(0.5, 1.5)
         layer.weight:uniform(0.5, 1.5)
         layer.bias:normal(0, 0.1)
      end
   end)
   model:evaluate()
   torch.save(folder .. '/' .. name .. '_io.t7', {input = input, output = model:forward(input):clone()})
   torch.save(folder .. '/' .. name .. '.t7', model:clearState())
end

local function convolution(...) return nn.SpatialConvolution(...) end
local function pool() return nn.SpatialMaxPooling(2, 2, 2, 2) end
local images = torch.randn(4, 3, 32, 32)

write('softmax', chain{nn.View(3 * 32 * 32), nn.Linear(3 * 32 * 32, 10), nn.LogSoftMax()}, images)
chain{nn.Linear(3072, 50), nn.Linear(50, 10)}  -- drawn for a network that is no fixture
local function convnet(normalized)
   local layers = {convolution(3, 8, 5, 5)}
   local function add(...) for _, layer in ipairs{...} do layers[#layers + 1] = layer end end
   if normalized then add(nn.SpatialBatchNormalization(8, 1e-3)) end
   add(nn.ReLU(), pool(), convolution(8, 16, 5, 5))
   if normalized then add(nn.SpatialBatchNormalization(16, 1e-3)) end
   add(nn.ReLU(), pool(), nn.View(400), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10), nn.LogSoftMax())
   return chain(layers)
end
write('convnet', convnet(false), images)
write('convnet_bn', convnet(true), images)
write('lenet5', chain{
   convolution(1, 6, 5, 5), pool(), convolution(6, 16, 5, 5), pool(),
   nn.View(400), nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10), nn.LogSoftMax(),
}, torch.rand(1, 32, 32))

local function block(planes, filters, ...)
   return convolution(planes, filters, ...), nn.SpatialBatchNormalization(filters, 1e-3), nn.ReLU(true)
end
local features, classifier = nn.Sequential(), nn.Sequential()
local function add(network, ...) for _, layer in ipairs{...} do network:add(layer) end end
local function large_pool() return nn.SpatialMaxPooling(3, 3, 2, 2) end
add(features, block(3, 8, 11, 11, 4, 4, 2, 2)) add(features, large_pool())
add(features, block(8, 24, 5, 5, 1, 1, 2, 2)) add(features, large_pool())
add(features, block(24, 48, 3, 3, 1, 1, 1, 1))
add(features, block(48, 32, 3, 3, 1, 1, 1, 1))
add(features, block(32, 32, 3, 3, 1, 1, 1, 1)) add(features, large_pool())
add(classifier, nn.View(32 * 6 * 6), nn.Dropout(0.5), nn.Linear(32 * 6 * 6, 128), nn.BatchNormalization(128, 1e-3), nn.ReLU())
add(classifier, nn.Dropout(0.5), nn.Linear(128, 128), nn.BatchNormalization(128, 1e-3), nn.ReLU(), nn.Linear(128, 100), nn.LogSoftMax())
write('alexnetowtbn_small', chain{features, classifier}, torch.randn(2, 3, 224, 224))
