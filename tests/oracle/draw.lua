-- Random modules of torch/nn: what can follow a tensor of a given number of dimensions.
--
--   local draw = dofile('draw.lua')
--   local input = draw.tensor(draw.int(1, 5))
--   local module = draw.module(input)     -- nil if the drawn class does not take this input
--
-- Everything comes from torch's generator, so torch.manualSeed makes it repeatable.

local draw = {}

function draw.int(low, high) return torch.random(low, high) end
function draw.maybe(probability) return torch.uniform() < (probability or 0.5) end
function draw.pick(...)
   local choices = {...}
   return choices[torch.random(1, #choices)]
end
local int, maybe, pick = draw.int, draw.maybe, draw.pick

-- A batch: rank 1 is one example; 2 rows; 3 sequences; 4 images; 5 volumes.
function draw.tensor(rank)
   local sizes = {
      {int(2, 6)},
      {int(2, 4), int(2, 6)},
      {int(2, 3), int(5, 9), int(2, 5)},
      {int(2, 3), int(1, 4), int(6, 11), int(6, 11)},
      {2, int(1, 3), int(4, 6), int(4, 6), int(4, 6)},
   }
   return torch.randn(unpack(sizes[rank]))
end

-- rank → functions from an input to a module; `any` fits every rank
local makers = {any = {}, [1] = {}, [2] = {}, [3] = {}, [4] = {}, [5] = {}}
local function add(rank, make) table.insert(makers[rank], make) end

-- For layers with windows of up to 3: beyond a smaller input, some of Torch7's read other memory.
local function add_window(rank, make)
   add(rank, function(x)
      for dimension = rank < 4 and 2 or 3, rank do
         if x:size(dimension) < 4 then return nil end
      end
      return make(x)
   end)
end

for _, name in ipairs{'Tanh', 'Sigmoid', 'ReLU', 'ReLU6', 'Abs', 'Square', 'SoftSign', 'LogSigmoid', 'TanhShrink', 'Identity', 'Contiguous'} do
   add('any', function() return nn[name]() end)
end
add('any', function() return nn.ELU(pick(0.3, 1, 2)) end)
add('any', function() return nn.LeakyReLU(pick(0, 0.01, 0.3)) end)
add('any', function() return nn.HardTanh(pick(-2, -1), pick(0.5, 1)) end)
add('any', function() return nn.Clamp(-1, pick(0.5, 2)) end)
add('any', function() return nn.HardShrink(pick(0.3, 1)) end)
add('any', function() return nn.SoftShrink(pick(0.3, 1)) end)
add('any', function() return nn.SoftPlus(pick(0.5, 1, 3)) end)
add('any', function() return nn.Threshold(pick(0, 0.5), pick(0, -1)) end)
add('any', function() return nn.Power(pick(2, 3)) end)
add('any', function() return nn.MulConstant(pick(-1, 0.5, 3)) end)
add('any', function() return nn.AddConstant(pick(-1, 0.5)) end)
add('any', function() return nn.PReLU() end)
add('any', function() return nn.Mul() end)
add('any', function() return nn.Dropout(pick(0.2, 0.5)) end)
add('any', function(x) return nn.CMul(x:size()) end)
add('any', function(x) return nn.CAdd(x:size()) end)
add('any', function(x) return x:dim() > 1 and nn.Transpose({1, 2}, {int(1, x:dim()), x:dim()}) end)
add('any', function(x) return x:dim() > 1 and nn.Select(int(1, x:dim()), pick(1, -1)) end)
add('any', function(x) return nn.Narrow(x:dim(), pick(1, 2), -1) end)
add('any', function(x) return nn.Unsqueeze(int(1, x:dim())) end)
add('any', function(x) return nn.Replicate(int(1, 3), int(1, x:dim())) end)
add('any', function(x) return nn.Padding(int(1, x:dim()), pick(-2, 1), x:dim(), pick(0, 0.5)) end)
add('any', function(x) return x:dim() > 1 and pick(nn.Sum, nn.Mean, nn.Max, nn.Min)(int(1, x:dim())) end)
add('any', function(x) return x:dim() < 5 and pick(nn.SoftMax, nn.LogSoftMax, nn.SoftMin)() end)
add('any', function(x) return x:dim() > 1 and pick(nn.View(-1), nn.View(-1, x:size(x:dim()))) end)
add('any', function(x) return x:dim() > 2 and nn.Reshape(x[1]:nElement(), true) end)
add('any', function(x) return x:dim() > 1 and nn.Sequential():add(nn.SplitTable(int(1, x:dim()))):add(nn.JoinTable(1)) end)

add(1, function(x) return nn.Linear(x:size(1), int(1, 6)) end)

add(2, function(x) return nn.Linear(x:size(2), int(1, 6), maybe(0.8)) end)
add(2, function(x) return nn.Cosine(x:size(2), int(1, 4)) end)
add(2, function(x) return nn.Euclidean(x:size(2), int(1, 4)) end)
add(2, function(x) return nn.Maxout(x:size(2), int(2, 4), int(2, 3)) end)
add(2, function(x) return nn.PartialLinear(x:size(2), int(2, 5)) end)
add(2, function(x) return nn.BatchNormalization(x:size(2), 1e-3, 0.1, maybe()) end)
add(2, function(x) return nn.Normalize(2) end)
add(2, function(x) return nn.Add(x:size(2), maybe(0.3)) end)
add(2, function(x) return nn.WeightNorm(nn.Linear(x:size(2), int(1, 4))) end)
add(2, function(x) return x:size(2) % 2 == 0 and nn.GatedLinearUnit(2) end)

add(3, function(x) return nn.Bottle(nn.Linear(x:size(3), int(1, 5))) end)
add_window(3, function(x) return nn.TemporalConvolution(x:size(3), int(1, 4), int(1, 3), int(1, 2)) end)
add_window(3, function(x) return nn.TemporalRowConvolution(x:size(3), int(1, 3), 1) end)
add_window(3, function(x) return nn.TemporalMaxPooling(int(1, 3), int(1, 2)) end)
add_window(3, function(x) return nn.TemporalSubSampling(x:size(3), int(1, 3), int(1, 2)) end)

local function window() return int(1, 3), int(1, 3), int(1, 2), int(1, 2), int(0, 1), int(0, 1) end
add_window(4, function(x) return nn.SpatialConvolution(x:size(2), int(1, 4), window()) end)
add_window(4, function(x) return nn.SpatialConvolutionMM(x:size(2), int(1, 4), window()) end)
add_window(4, function(x) return nn.SpatialFullConvolution(x:size(2), int(1, 4), window()) end)
add_window(4, function(x)
   local kw, kh, dw, dh, pw, ph = window()
   return nn.SpatialDilatedConvolution(x:size(2), int(1, 4), kw, kh, dw, dh, pw, ph, int(1, 2), int(1, 2))
end)
add_window(4, function(x) return nn.SpatialConvolutionMap(nn.tables.random(x:size(2), 4, 1), int(1, 3), int(1, 3)) end)
for _, pooling in ipairs{'SpatialMaxPooling', 'SpatialAveragePooling'} do
   add_window(4, function()
      local padding = int(0, 1)
      local module = nn[pooling](int(2, 3), int(2, 3), int(1, 3), int(1, 3), padding, padding)
      return maybe() and module:ceil() or module
   end)
end
add_window(4, function() return nn.SpatialAdaptiveMaxPooling(int(1, 3), int(1, 3)) end)
add_window(4, function() return nn.SpatialAdaptiveAveragePooling(int(1, 3), int(1, 3)) end)
add_window(4, function(x) return nn.SpatialLPPooling(x:size(2), 2, 2, 2) end)
add_window(4, function(x) return nn.SpatialSubSampling(x:size(2), 2, int(1, 2), 2, 1) end)
add(4, function(x) return nn.SpatialBatchNormalization(x:size(2), 1e-3, 0.1, maybe()) end)
add(4, function() return nn.SpatialCrossMapLRN(pick(3, 5), 0.1, 0.75) end)
add(4, function() return nn.SpatialUpSamplingNearest(int(2, 3)) end)
add(4, function() return nn.SpatialUpSamplingBilinear(int(2, 3)) end)
add_window(4, function() return nn.SpatialZeroPadding(int(-1, 2), int(0, 2), int(0, 2), int(-1, 2)) end)
add_window(4, function() return nn.SpatialReflectionPadding(int(0, 2), int(0, 2), int(0, 2), int(0, 2)) end)
add_window(4, function() return nn.SpatialReplicationPadding(int(0, 2), int(0, 2), int(0, 2), int(0, 2)) end)
add(4, function() return nn.SpatialDropout(0.3) end)
add(4, function() return nn.SpatialSoftMax() end)
add(4, function(x) return nn.PReLU(x:size(2)) end)
add(4, function(x) return x:size(2) == 4 and nn.PixelShuffle(2) end)
add_window(4, function(x) return nn.SpatialContrastiveNormalization(x:size(2), torch.ones(3, 3)) end)

add_window(5, function(x) return nn.VolumetricConvolution(x:size(2), int(1, 3), int(1, 3), int(1, 2), int(1, 3)) end)
add_window(5, function(x) return nn.VolumetricFullConvolution(x:size(2), int(1, 3), int(1, 2), int(1, 2), int(1, 3)) end)
add_window(5, function() return nn.VolumetricMaxPooling(int(1, 3), int(1, 2), int(1, 3)) end)
add_window(5, function() return nn.VolumetricAveragePooling(int(1, 3), int(1, 2), int(1, 3)) end)
add(5, function(x) return nn.VolumetricBatchNormalization(x:size(2)) end)
add_window(5, function() return nn.VolumetricReplicationPadding(1, 0, 2, 1, 0, 1) end)

-- A module that may take the input; two in three belong to the input's rank.
function draw.module(input)
   local rank = makers[input:dim()]
   if not rank then return nil end
   local from = maybe(2 / 3) and rank or makers.any
   local module = from[int(1, #from)](input)
   if not module then return nil end
   for _, part in ipairs(module:listModules()) do
      if part.running_mean then
         part.running_mean:normal(0, 0.3)
         part.running_var:uniform(0.5, 2)
      end
   end
   return module:float()
end

return draw
