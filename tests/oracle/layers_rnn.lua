-- th layers_rnn.lua FOLDER: writes FOLDER/rnn.t7, modules of Element-Research/rnn.
--
-- In training mode, because in evaluation mode all steps share the buffers of the last one, so that
-- their gradients are wrong.
require 'rnn'
local here = arg[0]:match('^(.*)/') or '.'
local record = dofile(here .. '/record.lua')
local cases = record.list(12)

local function steps(count, ...)
   local result = {}
   for step = 1, count do result[step] = torch.randn(...) end
   return result
end

-- A batch whose second example is padding.
local function padded(...)
   local input = torch.randn(...)
   input[2]:zero()
   return input
end

local function recurrent()
   return nn.Recurrent(3, nn.Linear(4, 3), nn.Linear(3, 3), nn.Tanh())
end

cases:module('CopyGrad', nn.CopyGrad(), torch.randn(2, 3), 'train')
cases:module('MaskZero', nn.MaskZero(nn.Sequential():add(nn.Linear(4, 3)):add(nn.Tanh()), 1), padded(3, 4))
cases:module('TrimZero', nn.TrimZero(nn.Sequential():add(nn.Linear(4, 3)):add(nn.Tanh()), 1), padded(3, 4))
cases:module('MuFuRu_step', nn.MuFuRu(4, 3), torch.randn(2, 4))
cases:module('Recurrent_step', recurrent(), torch.randn(2, 4))
cases:module('Recursor_step', nn.Recursor(nn.LSTM(4, 3)), torch.randn(2, 4))
local join = nn.Sequential():add(nn.JoinTable(1, 1)):add(nn.Linear(7, 3)):add(nn.Tanh())
cases:module('Recurrence_step', nn.Recurrence(join, 3, 1), torch.randn(2, 4))
cases:module('Sequencer_Recurrent', nn.Sequencer(recurrent()), steps(3, 2, 4), 'train')
cases:module('Sequencer_LSTM', nn.Sequencer(nn.LSTM(4, 3)), steps(3, 2, 4), 'train')
cases:module('Sequencer_FastLSTM', nn.Sequencer(nn.FastLSTM(4, 3)), torch.randn(4, 2, 4), 'train')
cases:module('Sequencer_GRU', nn.Sequencer(nn.GRU(4, 3)), steps(3, 2, 4), 'train')
cases:module('Sequencer_MuFuRu', nn.Sequencer(nn.MuFuRu(4, 3)), steps(3, 2, 4), 'train')
cases:module('BiSequencer', nn.BiSequencer(nn.FastLSTM(4, 3), nn.FastLSTM(4, 3)), steps(3, 2, 4), 'train')
cases:module('BiSequencerLM', nn.BiSequencerLM(nn.GRU(4, 3), nn.GRU(4, 3)), steps(3, 2, 4), 'train')
cases:module('Repeater', nn.Repeater(nn.Recurrent(4, nn.Linear(4, 4), nn.Linear(4, 4), nn.Tanh()), 3), torch.randn(2, 4), 'train')
cases:module('SeqReverseSequence', nn.SeqReverseSequence(2), torch.randn(2, 5, 3))
-- Outputs only: its gradient stands in for the loss of a language model.
local stable = nn.Sequencer(nn.Sequential():add(nn.Linear(4, 3)):add(nn.NormStabilizer()))
cases:module('NormStabilizer', stable, steps(3, 2, 4))

cases:save(arg[1] .. '/rnn.t7')
