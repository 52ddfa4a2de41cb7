"""InfoNCE on the pairs of the PNE loss: each positive by itself against all negatives."""

import torch.nn.functional as F
from torch import Tensor

from pne_seg.contrast.pne import PNELoss


class InfoNCELoss(PNELoss):
    """The supervised InfoNCE loss on the anchors, positives and negatives of :class:`PNELoss`.

    One positive competes with all n negatives, where PNE lets all positives compete at once::

        l_a = sum_p w_p log(1 + sum_n exp s(a, n) / exp s(a, p)),   w_p = q_p / sum_p' q_p'

    so that nothing but the balance of positives and negatives differs between the two. With
    ``weight_positives=False`` all w_p are 1/n (van den Oord et al., arXiv 1807.03748; the mean over
    positives outside the logarithm as in Khosla et al., NeurIPS 2020).

    Settings, statistics and errors are those of :class:`PNELoss`; the definition is the only
    implementation.
    """

    _is_fast = False

    def anchor_losses(self, to_positives: Tensor, to_negatives: Tensor, log_q: Tensor) -> Tensor:
        """ℓ_a (Q, n), of similarities (Q, n, n) and the positives' log q (Q, 1, n)."""
        negatives = to_negatives.logsumexp(2, keepdim=True)  # (Q, n, 1)
        return (log_q.softmax(2) * F.softplus(negatives - to_positives)).sum(2)
