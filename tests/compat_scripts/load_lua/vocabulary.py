from torch.utils.serialization import load_lua

checkpoint = load_lua("compat/checkpoint.t7", unknown_classes=True)
vocab = checkpoint.vocab
chars = sorted(vocab, key=lambda c: vocab[c])
print(chars, checkpoint.opt.rnn_size, type(checkpoint.epoch).__name__)
print(type(checkpoint.protos.rnn).__name__, checkpoint.protos.missing)
