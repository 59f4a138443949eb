-- th layers_dpnn.lua FOLDER: writes FOLDER/dpnn.t7, modules of Element-Research/dpnn.
--
-- Those that draw random numbers in training are recorded in evaluation mode.
require 'dpnn'
local here = arg[0]:match('^(.*)/') or '.'
local record = dofile(here .. '/record.lua')
local cases = record.list(13)

local probabilities = nn.SoftMax():float():forward(torch.randn(3, 4):float()):clone()
cases:module('CategoricalEntropy', nn.CategoricalEntropy(0.5), probabilities)
cases:module('SpatialUniformCrop', nn.SpatialUniformCrop(4, 5), torch.randn(2, 3, 8, 9))
cases:module('SpatialRegionDropout', nn.SpatialRegionDropout(0.3), torch.randn(2, 3, 8, 9))
cases:module('TotalDropout', nn.TotalDropout(0.3), torch.randn(2, 3))
cases:module('SimpleColorTransform', nn.SimpleColorTransform(3, torch.rand(3)), torch.randn(2, 3, 4, 4))
cases:module('PCAColorTransform', nn.PCAColorTransform(3, torch.eye(3), torch.ones(3), 0.1), torch.randn(2, 3, 4, 4))
cases:module('ReinforceNormal', nn.ReinforceNormal(0.3), torch.randn(2, 3))
cases:module('ReinforceBernoulli', nn.ReinforceBernoulli(), torch.rand(2, 3))
cases:module('ReinforceCategorical', nn.ReinforceCategorical(), probabilities)
cases:module('ReverseTable', nn.ReverseTable(), {torch.randn(2, 3), torch.randn(2, 3), torch.randn(2, 3)})

cases:save(arg[1] .. '/dpnn.t7')
