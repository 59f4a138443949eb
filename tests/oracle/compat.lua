-- Networks and a checkpoint for torchlift.compat: th tests/oracle/compat.lua FOLDER
require 'nn'
local folder = arg[1]
torch.setdefaulttensortype('torch.FloatTensor'); torch.manualSeed(7)
local function conv(i,o,p) return nn.SpatialConvolution(i,o,3,3,1,1,p or 1,p or 1) end
local function seq(...) local s=nn.Sequential(); for _,m in ipairs{...} do s:add(m) end return s end
local function table_of(c,...) for _,m in ipairs{...} do c:add(m) end return c end
local net=seq(conv(3,4), nn.ReLU(), table_of(nn.Concat(2), seq(conv(4,2), nn.Tanh()), conv(4,3)),
  table_of(nn.ConcatTable(), seq(conv(5,5), nn.Dropout(0.3)), nn.Identity()), nn.CAddTable(),
  table_of(nn.ConcatTable(), conv(5,2), conv(5,3)), nn.JoinTable(2),
  table_of(nn.DepthConcat(2), conv(5,2), conv(5,3,0)),
  nn.SpatialMaxPooling(2,2,2,2):ceil(), nn.SpatialCrossMapLRN(5), nn.PReLU(5),
  nn.SpatialDilatedConvolution(5,4,3,3,1,1,2,2,2,2), nn.SpatialBatchNormalization(4), nn.SpatialAveragePooling(2,2,2,2),
  nn.View(4*4*4):setNumInputDims(3), nn.Linear(64,10), nn.Sigmoid(), nn.LogSoftMax())
net:training(); for i=1,20 do net:forward(torch.randn(4,3,16,16)) end
local x=torch.rand(2,3,16,16)
net:evaluate(); local y=net:forward(x):clone()
net:training(); net:clearState()
torch.save(folder .. '/branches.t7', net)
torch.save(folder .. '/branches_io.t7', {input=x, output=y})
torch.save(folder .. '/checkpoint.t7', {vocab={a=1,b=2,['ä']=3,[' ']=4}, opt={rnn_size=8,num_layers=1,dropout=0.5}, epoch=2.5, i=120,
  protos={rnn=seq(nn.LookupTable(4,3), nn.SplitTable(2), nn.SelectTable(1), nn.Linear(3,4), nn.LogSoftMax())}, losses={0.5,0.25}})
