-- th layers_inn_nnx.lua FOLDER: writes FOLDER/inn.t7 and FOLDER/nnx.t7: those modules of
-- szagoruyko/imagine-nn and clementfarabet/lua---nnx that are Lua, so that no GPU is needed.
require 'inn'
require 'nnx'
local here = arg[0]:match('^(.*)/') or '.'
local record = dofile(here .. '/record.lua')

local cases = record.list(14)
cases:module('ConstAffine', inn.ConstAffine(torch.randn(3), torch.randn(3)), torch.randn(2, 3, 4, 5))
cases:module('MeanSubtraction', inn.MeanSubtraction(torch.randn(3, 4, 5)), torch.randn(2, 3, 4, 5))
cases:module('SpatialSameResponseNormalization', inn.SpatialSameResponseNormalization(3, 0.1, 0.75), torch.randn(2, 4, 6, 5))
cases:module('SpatialSameResponseNormalization_single', inn.SpatialSameResponseNormalization(5, 0.1, 0.5), torch.randn(4, 6, 5))
cases:module('SpatialPyramidPooling', inn.SpatialPyramidPooling({{3, 2}, {1, 1}}), torch.randn(2, 3, 7, 6))
cases:save(arg[1] .. '/inn.t7')

cases = record.list(15)
cases:module('Minus', nn.Minus(), torch.randn(2, 3))
cases:module('SpatialLinear', nn.SpatialLinear(3, 4), torch.randn(3, 5, 6))
cases:module('SpatialClassifier', nn.SpatialClassifier(nn.Sequential():add(nn.Linear(3, 4)):add(nn.Tanh())), torch.randn(3, 5, 6))
cases:module('SpatialPadding', nn.SpatialPadding(1, 2, 0, 1), torch.randn(3, 4, 5))
cases:module('SpatialPadding_crop', nn.SpatialPadding(-1, 2, 1, -1), torch.randn(3, 4, 5))
cases:module('SpatialUpSampling', nn.SpatialUpSampling(2, 3), torch.randn(2, 3, 4))
cases:module('SpatialReSampling', nn.SpatialReSampling{owidth = 7, oheight = 5}, torch.randn(2, 3, 4))
cases:module('SpatialReSamplingEx_simple', nn.SpatialReSamplingEx{owidth = 7, oheight = 6, mode = 'simple'}, torch.randn(2, 3, 4))
cases:module('SpatialReSamplingEx_average', nn.SpatialReSamplingEx{owidth = 2, oheight = 3, mode = 'average'}, torch.randn(2, 6, 4))
cases:module('SpatialReSamplingEx_bilinear', nn.SpatialReSamplingEx{owidth = 7, oheight = 5, mode = 'bilinear'}, torch.randn(2, 3, 4))
cases:save(arg[1] .. '/nnx.t7')
