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
local tree = {[1] = torch.IntTensor{2, 3, 4}, [2] = torch.IntTensor{5, 6}, [4] = torch.IntTensor{7, 8, 9, 10}, [9] = torch.IntTensor{11, 12}}
cases:module('SoftMaxTree', nn.SoftMaxTree(4, tree, 1, false, false), {torch.randn(6, 4), torch.IntTensor{3, 5, 6, 8, 12, 11}})
cases:module('SpatialDownSampling', nn.SpatialDownSampling{rW = 2, rH = 3}, torch.randn(2, 7, 5))
cases:module('SpatialMaxSampling', nn.SpatialMaxSampling{owidth = 3, oheight = 2}, torch.randn(2, 7, 8))
cases:module('SpatialMaxSampling_larger', nn.SpatialMaxSampling{owidth = 7, oheight = 5}, torch.randn(2, 4, 3))
cases:module('SpatialColorTransform', nn.SpatialColorTransform('rgb2yuv'), torch.rand(3, 2, 4))
cases:module('SpatialMatching', nn.SpatialMatching(3, 2), {torch.randn(2, 4, 5), torch.randn(2, 6, 6)})
cases:module('SpatialMatching_full', nn.SpatialMatching(3, 4, true), {torch.randn(2, 4, 5), torch.randn(2, 4, 5)})
local function scales() return {nn.SpatialConvolution(2, 3, 3, 3), nn.SpatialConvolution(2, 3, 3, 3)} end
cases:module('SpatialPyramid', nn.SpatialPyramid({1, 2}, scales(), 3, 3, 1, 1, 3, 2, 3, 2), torch.randn(2, 4, 6))
local fovea = nn.SpatialFovea{nInputPlane = 2, ratios = {1, 2}, processors = scales(), fov = 3, sub = 1}
fovea:configure(6, 4)  -- its type() needs the layers that are made here
cases:module('SpatialFovea', fovea, torch.randn(2, 4, 6))
-- Its gradients need a push of the last value.
local function pushed(push, ...)
   local network = nn.Sequential():add(nn.SplitTable(2)):add(push):add(nn.JoinTable(2)):add(nn.Tanh())
   for _, index in ipairs{...} do network:add(push:pull(index)) end
   return network:add(nn.JoinTable(2))
end
cases:module('PushTable_last', pushed(nn.PushTable(3), 2), torch.randn(2, 3, 4))
cases[#cases].class = 'nn.PushTable'
cases:module('PullTable_twice', pushed(nn.PushTable(1), 2, 1), torch.randn(2, 3, 4))
cases[#cases].class = 'nn.PullTable'
cases:module('PullTable_twice_last', pushed(nn.PushTable(3), 1, 2), torch.randn(2, 3, 4))
cases[#cases].class = 'nn.PullTable'
cases:save(arg[1] .. '/nnx.t7')
