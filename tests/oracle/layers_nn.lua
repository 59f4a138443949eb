-- th layers_nn.lua FOLDER: writes FOLDER/nn.t7, modules of torch/nn.
require 'nn'
local here = arg[0]:match('^(.*)/') or '.'
local record = dofile(here .. '/record.lua')
local cases = record.list(11)

cases:module('CAdd_broadcast', nn.CAdd(1, 3, 1), torch.randn(2, 3, 4))
cases:module('CAdd_flat', nn.CAdd(torch.LongStorage{3, 4}), torch.randn(2, 3, 4))
cases:module('Container_in_Decorator', nn.Decorator(nn.Sequential():add(nn.Linear(4, 3)):add(nn.Tanh())), torch.randn(2, 4))
cases:module('CriterionTable_MSE', nn.CriterionTable(nn.MSECriterion()), {torch.randn(2, 3), torch.randn(2, 3)})
cases:module('SpatialZeroPadding_crop', nn.SpatialZeroPadding(-1, 2, 1, -1), torch.randn(2, 3, 5, 6))
cases:module('TemporalRowConvolution', nn.TemporalRowConvolution(4, 3, 2), torch.randn(2, 9, 4))
cases:module('TemporalRowConvolution_features_first', nn.TemporalRowConvolution(4, 3, 1, true), torch.randn(2, 4, 9))
cases:module('TemporalRowConvolution_single', nn.TemporalRowConvolution(4, 2, 1):noBias(), torch.randn(7, 4))

-- A layer that reverses a pooling needs the indices of that pooling: both stand in one network.
local function unpooled(pooling, unpooling)
   return nn.Sequential():add(pooling):add(nn.MulConstant(2)):add(unpooling)
end
local plane = nn.SpatialMaxPooling(2, 2, 2, 2)
cases:module('SpatialMaxUnpooling', unpooled(plane, nn.SpatialMaxUnpooling(plane)), torch.randn(2, 3, 6, 8))
cases[#cases].class = 'nn.SpatialMaxUnpooling'
local volume = nn.VolumetricMaxPooling(2, 2, 2, 2, 2, 2)
cases:module('VolumetricMaxUnpooling', unpooled(volume, nn.VolumetricMaxUnpooling(volume)), torch.randn(2, 3, 4, 6, 8))
cases[#cases].class = 'nn.VolumetricMaxUnpooling'

cases:module('BatchNormalization_train_no_affine', nn.BatchNormalization(5, 1e-3, 0.2, false), torch.randn(6, 5), 'train')
cases:module('Dropout_off_in_training', nn.Dropout(0), torch.randn(2, 5), 'train')
cases:module('L1Penalty_train', nn.L1Penalty(0.3, true), torch.randn(3, 4), 'train')
cases:module('GradientReversal_train', nn.GradientReversal(2), torch.randn(3, 4), 'train')

cases:save(arg[1] .. '/nn.t7')
