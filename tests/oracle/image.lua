-- th image.lua PHOTOGRAPH FOLDER: writes FOLDER/image_scale.t7 and image_crop_flip.t7.
-- PHOTOGRAPH is a .t7 file with an `input` of 3×60×90: one of the two, which hold it.
require 'image'
local input, folder = torch.load(arg[1]).input, arg[2]

local cases = {}
for _, size in ipairs{{32, 32}, {45, 30}, {90, 60}, {180, 120}, {50, 60}, {90, 31}, {17, 200}, {1, 1}, {91, 61}} do
   for _, mode in ipairs{'bilinear', 'bicubic', 'simple'} do
      local output = image.scale(input, size[1], size[2], mode)
      cases[#cases + 1] = {width = size[1], height = size[2], mode = mode, output = output}
   end
end
for _, size in ipairs{'48', '^48', '*1/2', '40x25'} do
   cases[#cases + 1] = {size = size, mode = 'bilinear', output = image.scale(input, size, 'bilinear')}
end
cases[#cases + 1] = {width = 20, height = 20, mode = 'bilinear', gray = true, output = image.scale(input[1], 20, 20, 'bilinear')}
torch.save(folder .. '/image_scale.t7', {input = input, cases = cases})
torch.save(folder .. '/image_crop_flip.t7', {
   input = input, hflip = image.hflip(input),
   box = image.crop(input, 5, 7, 45, 37), center = image.crop(input, 'c', 40, 30),
})
