import json

import torchfile

checkpoint = torchfile.load("compat/checkpoint.t7")
vocab = {k.decode("utf8"): v for k, v in checkpoint.vocab.items()}
ivocab = {v: k for k, v in vocab.items()}
print(json.dumps([ivocab[i] for i in sorted(ivocab)]))
print(checkpoint.opt.rnn_size, checkpoint.opt.num_layers, checkpoint.epoch, checkpoint.nothing)
