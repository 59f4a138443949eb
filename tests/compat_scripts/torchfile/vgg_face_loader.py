import torch
import torch.nn as nn
import torchfile


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_1 = nn.Conv2d(1, 6, 5)
        self.conv_2 = nn.Conv2d(6, 16, 5)
        self.fc3 = nn.Linear(400, 120)
        self.fc4 = nn.Linear(120, 84)
        self.fc5 = nn.Linear(84, 10)

    def load_weights(self, path):
        model = torchfile.load(path)
        layers = [self.conv_1, self.conv_2, self.fc3, self.fc4, self.fc5]
        for layer in model.modules:
            if layer.weight is not None:
                self_layer = layers.pop(0)
                self_layer.weight.data[...] = torch.tensor(layer.weight).view_as(self_layer.weight)[...]
                self_layer.bias.data[...] = torch.tensor(layer.bias).view_as(self_layer.bias)[...]

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.conv_1(x)), 2, 2)
        x = nn.functional.max_pool2d(torch.relu(self.conv_2(x)), 2, 2)
        x = torch.relu(self.fc3(x.view(x.size(0), -1)))
        return self.fc5(torch.relu(self.fc4(x)))


net = LeNet()
net.load_weights("digits/digits-lenet5.t7")
net.eval()
test = torchfile.load("digits/digits-test.t7")
images = torch.tensor(test.data[:8]).float()
print(net((images - 60.4) / 84.7).argmax(1).tolist())
