-- th formats.lua FOLDER: writes the files of fixtures/formats, one for each property of the format.
-- The gradients of module_*.t7 are memory that nobody set, and cuda_* have the names of classes
-- that need a GPU: cutorch and cudnn write the same bytes behind them.
require 'nn'
local tds = require 'tds'
local folder = arg[1]

local function write(name, value, kind, change)
   local file = torch.DiskFile(folder .. '/' .. name .. '.t7', 'w')
   file[kind or 'binary'](file)
   if change then change(file) end
   file:writeObject(value)
   file:close()
end

local function text(name, ending, bytes)
   local file = assert(io.open(folder .. '/' .. name .. ending, 'wb'))
   file:write(bytes)
   file:close()
end

local encodings = {
   bigendian = function(file) file:bigEndianEncoding() end,
   long4 = function(file) file:longSize(4) end,
   big_long4 = function(file) file:bigEndianEncoding() file:longSize(4) end,
}

-- Tensors and storages of each type.
for _, name in ipairs{'Byte', 'Char', 'Short', 'Int', 'Long', 'Float', 'Double', 'Half'} do
   local tensor = torch.range(1, 24):view(2, 3, 4)
   if name == 'Float' or name == 'Double' or name == 'Half' then tensor:div(7)
   elseif name ~= 'Byte' then tensor:add(-12) end
   tensor = name == 'Half' and tensor:float():half() or tensor:type('torch.' .. name .. 'Tensor')
   local file = name:lower() .. 'tensor'
   write(file, tensor)
   write(file .. '_ascii', tensor, 'ascii')
   for encoding, change in pairs(encodings) do write(file .. '_' .. encoding, tensor, 'binary', change) end
   local storage = torch[name .. 'Storage'](5)
   for i = 1, 5 do storage[i] = 3 end
   write(name:lower() .. 'storage', storage)
end

-- Views and shared memory.
local cube = torch.range(1, 60):view(3, 4, 5)
write('view_expand', torch.DoubleTensor{1, 2, 3}:view(3, 1):expand(3, 4))
write('view_narrow', cube:narrow(2, 2, 2))
write('view_select', cube:select(3, 2))
write('view_transposed', cube:transpose(1, 3))
write('shared_storage', {a = cube, b = cube[1], c = cube:narrow(3, 2, 2), same = cube})
write('empty_tensor', torch.DoubleTensor())
write('zero_storage', torch.DoubleStorage(0))
write('scalar_like', torch.DoubleTensor{42})
torch.manualSeed(5)
local many = {}
for i = 1, 2000 do many[i] = torch.rand(3) end
write('many_small_tensors', many)

-- Numbers, strings and tables.
local inf, nan = math.huge, 0 / 0
write('numbers', {1, 2.5, -3, 1e300, inf, -inf, 0, 2^53})
write('numbers_ascii', {1, 2.5, -3, 1e300, 0, 2^53}, 'ascii')
write('special_values', torch.DoubleTensor{inf, -inf, nan, -0.0, 1e308, 5e-324})
write('special_values_ascii', torch.DoubleTensor{inf, -inf, nan, -0.0, 1e308}, 'ascii')
write('booleans', {true, false, x = true})
write('strings', {'', 'hello', 'tab\tnew\nline', '\0\1\255binary', 'café', ('x'):rep(5000)})
write('strings_ascii', {'', 'hello', 'tab\tnew\nline', 'café'}, 'ascii')
write('list', {10, 20, 30})
write('map', {a = 1, b = {c = 2}})
write('mixed_keys', {1, 2, 'x', k = 5, [-1] = 8, [10] = 7, [2.5] = 9, [true] = 10})
write('nil_holes', {1, nil, 3, nil, 5})
local key = {1}
write('table_key', {[key] = 'v', key = key})
local root = {name = 'root', kids = {}}
root.self = root
for i = 1, 2 do root.kids[i] = {parent = root} end
write('recursive', root)
local nested = {i = 3000}
for i = 2999, 1, -1 do nested = {i = i, next = nested} end
write('deep_nesting', {next = nested})

-- Objects.
my = {}
local Custom = torch.class('my.Custom')
function Custom:__init() self.field, self.note = torch.ones(3), 'kept' end
write('custom_class', my.Custom())
local Writes = torch.class('my.Writes')
function Writes:write(file) file:writeObject{a = 1, extra = 'w'} end
write('custom_write', my.Writes())
write('tds_hash', tds.Hash{a = 1, b = 2})
write('tds_vec', tds.Vec{'x', 'y', 'z'})
write('timer_generator', {gen = torch.Generator()})
local function compiled(line)  -- the bytecode names the file and the line of its source
   return assert(loadstring(('\n'):rep(31) .. line, '@make_formats.lua'))()
end
write('function_plain', compiled('return function(a, b) return a + b end'))
local closure = compiled('local up = 41; return function(x) return x + up end')
write('function_upvalue', {f = closure, after = 'still readable'})

-- Files.
local two = torch.DiskFile(folder .. '/two_objects.t7', 'w'):binary()
two:writeObject({1})
two:writeObject({1, 2})
two:close()
write('unreferenced', {a = torch.ones(2), b = {1, 2}}, 'binary', function(file) file:referenced(false) end)
local whole = assert(io.open(folder .. '/doubletensor.t7', 'rb')):read('*a')
for _, size in ipairs{3, 11, 40, 330} do text('bad_truncated_' .. size, '.t7', whole:sub(1, size)) end
local module = nn.Sequential():add(nn.Linear(3, 2)):add(nn.Tanh())
write('module_ascii', module, 'ascii')
write('module_big', module, 'binary', encodings.bigendian)
write('module_long4', module, 'binary', encodings.long4)
text('module_mem_b64', '.txt', torch.serialize(torch.serialize(module, 'ascii')))

-- What cutorch and cudnn write: the same bytes under other names, so that no GPU is needed.
local function write_renamed(name, value, names)
   local bytes = torch.serialize(value)
   local function counted(word) return torch.serialize(word):sub(5) end  -- its length, then the word
   for from, to in pairs(names) do
      from, to = counted(from), counted(to)
      local first, last = bytes:find(from, 1, true)
      while first do
         bytes = bytes:sub(1, first - 1) .. to .. bytes:sub(last + 1)
         first, last = bytes:find(from, first + #to, true)
      end
   end
   text(name, '.t7', bytes)
end
write_renamed('cuda_half', {a = torch.FloatTensor(3):fill(1.5):half(), b = torch.LongTensor{1, 2, 3}}, {
   ['torch.HalfTensor'] = 'torch.CudaHalfTensor', ['torch.HalfStorage'] = 'torch.CudaHalfStorage',
   ['torch.LongTensor'] = 'torch.CudaLongTensor', ['torch.LongStorage'] = 'torch.CudaLongStorage',
})
torch.setdefaulttensortype('torch.FloatTensor')
local convolution, normalization = nn.SpatialConvolution(3, 4, 3, 3), nn.SpatialBatchNormalization(4)
local linear = nn.Linear(36, 5)
normalization.running_mean:copy(torch.randn(4))
normalization.running_var:uniform(0.5, 2)
local relu, pooling, softmax = nn.ReLU(true), nn.SpatialMaxPooling(2, 2, 2, 2), nn.LogSoftMax()
local network = nn.Sequential():add(convolution):add(normalization):add(relu):add(pooling)
network:add(nn.View(36)):add(linear):add(softmax):evaluate()
local input = torch.randn(2, 3, 8, 8)
local output = network:forward(input):clone()
network:clearState()
convolution.groups, relu.mode, relu.nElem = 1, 'CUDNN_ACTIVATION_RELU', 0
softmax.mode, softmax.algorithm = 'CUDNN_SOFTMAX_MODE_INSTANCE', 'CUDNN_SOFTMAX_LOG'
local names = {
   ['torch.FloatTensor'] = 'torch.CudaTensor', ['torch.FloatStorage'] = 'torch.CudaStorage',
   ['torch.LongTensor'] = 'torch.CudaLongTensor', ['torch.LongStorage'] = 'torch.CudaLongStorage',
}
for _, name in ipairs{'SpatialConvolution', 'SpatialBatchNormalization', 'ReLU', 'SpatialMaxPooling', 'LogSoftMax'} do
   names['nn.' .. name] = 'cudnn.' .. name
end
write_renamed('cuda_model', {module = network, input = input, output = output}, names)
