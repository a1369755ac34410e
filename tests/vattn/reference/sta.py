"""Reference of STA, as sums over rows."""

import torch
from torch import Tensor, nn

from vattn.modules.sta import STA, STAConfig


def sta(module: STA, x: Tensor) -> Tensor:
    whole = module.squeeze.kernel_size[0] > 1 or module.frames == 1
    frames = [x] if whole else [x[:, :, [t]] for t in range(x.shape[2])]
    weights, bias = module.squeeze.weight.flatten(1), module.get_parameter("squeeze.bias")
    row = torch.cat([f.flatten(1) @ weights.T + bias for f in frames], dim=1)
    length, (k,), (step,) = row.shape[1], module.expand.kernel_size, module.expand.stride
    if isinstance(module.deconv, nn.ConvTranspose1d):
        parts = row[..., None] @ module.deconv.weight[0]
        stretched = row.new_zeros(row.shape[0], (length - 1) * step + k) + module.get_parameter("deconv.bias")
        for t in range(length):
            stretched[:, t * step : t * step + k] += parts[:, t]
    else:
        zeros = row.new_zeros(row.shape[0], k // 2)
        # Zeros stay zeros in the ReLU, so padding before it is padding after it.
        stretched = torch.cat([zeros, row, zeros], dim=1)
    stretched = torch.relu(stretched)
    windows = torch.stack([stretched[:, t * step : t * step + k] for t in range(length)], dim=1)
    gates = torch.sigmoid(windows @ module.expand.weight[:, 0].T + module.get_parameter("expand.bias"))
    return x * gates.transpose(1, 2)[..., None, None]


FORMS = {STA: sta}
CONFIGS = [
    STAConfig(),
    STAConfig(step=2),
    STAConfig(step=4, kernel_size=3),
    STAConfig(kernel_size=4),
    STAConfig(deconv=False),
    STAConfig(weights="ta"),
    STAConfig(weights="sa"),
    STAConfig(weights="sa", deconv=False),
]
