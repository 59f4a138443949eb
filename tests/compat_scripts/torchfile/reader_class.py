import torchfile

with open("digits/digits_meanStd.t7", "rb") as f:
    reader = torchfile.T7Reader(f, use_int_heuristic=False, utf8_decode_strings=True)
    table = reader.read_obj()
print({k: [type(x).__name__ for x in v] for k, v in sorted(table.items())})
with open("digits/digits_classes.t7", "rb") as f:
    plain = torchfile.T7Reader(f, use_list_heuristic=False).read_obj()
print(type(plain).__name__, [plain[i] for i in range(1, 4)])
