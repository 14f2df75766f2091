"""A card for every block: its equation, what its docstring says, its picture, its source. They make
docs/blocks.md, shelf by shelf."""
import inspect
import re

import matplotlib.pyplot as plt

from .. import blocks, files
from ..analysis.words import name as said
from ..blocks import BLOCKS
from ..settings import figures_dir
from .diagrams import diagram
from .style import png

# In every equation: x one map [C, H, W], a its channels' means, m their maxima, σ the sigmoid,
# K a convolution, and a product runs over the sizes that one side lacks.
EQUATIONS = {
    "se": r"y = x \cdot \sigma\!\left(W_2\,\mathrm{relu}(W_1 a)\right)",
    "ser": r"y = x \cdot \left(1 + \sigma\!\left(W_2\,\mathrm{relu}(W_1 a)\right)\right)",
    "sec": r"y = x \cdot \sigma\!\left(W_2\,\mathrm{relu}(W_1 a + b_1) + b_2\right)",
    "eca": r"y = x \cdot \sigma(K \ast a), \qquad (K \ast a)_c = \sum_{|d| \le k/2} K_d\, a_{c+d}",
    "ge": r"y = x \cdot \sigma(a)",
    "srm": r"y = x \cdot \sigma\!\left(\mathrm{BN}(u \odot a + w \odot s)\right), \qquad "
           r"s_c = \mathrm{sd}_{ij}\, x_{cij}",
    "gc": r"y = x + W_2\,\mathrm{relu}\!\left(\mathrm{LN}\!\left(W_1 \sum_j p_j x_j\right)\right), "
          r"\qquad p = \mathrm{softmax}_j(w^\top x_j)",
    "layerscale": r"y = x \cdot \gamma, \qquad \gamma \in \mathbb{R}^C \text{ the same for all "
                  r"images}",
    "shuffled": r"y_n = x_n \cdot \sigma\!\left(W_2\,\mathrm{relu}(W_1 a_{n-1})\right) \quad "
                r"\text{for image } n \text{ of a batch}",
    "frozen": r"y = x \cdot \sigma\!\left(\bar W_2\,\mathrm{relu}(\bar W_1 a)\right), \qquad "
              r"\bar W_1, \bar W_2 \text{ as drawn}",
    "ca": r"y = x \cdot M_c(x), \qquad M_c(x) = \sigma\!\left(\mathrm{MLP}(a) + \mathrm{MLP}(m)"
          r"\right)",
    "sa": r"y = x \cdot M_s(x), \qquad M_s(x) = \sigma\!\left(\mathrm{BN}\!\left(K_{7 \times 7}\, "
          r"[\max_c x;\ \mathrm{mean}_c\, x]\right)\right)",
    "cbam": r"y = x' \cdot M_s(x'), \qquad x' = x \cdot M_c(x)",
    "cbam_avg": r"y = x' \cdot \sigma\!\left(K_{7 \times 7}\, [\max_c x';\ \mathrm{mean}_c\, x']"
                r"\right), \qquad x' = \mathrm{SE}(x)",
    "bam": r"y = x \cdot \left(1 + \sigma(M_c + M_s)\right), \qquad M_c = W_2\,\mathrm{relu}("
           r"\mathrm{BN}(W_1 a)), \quad M_s = K_1\, D_2\, D_1\, K_0\, x",
    "scse": r"y = x \cdot \left[\sigma\!\left(W_2\,\mathrm{relu}(W_1 a)\right) + "
            r"\sigma(w^\top x_{ij} + b)\right]",
    "coord": r"y_{cij} = x_{cij} \cdot \sigma(W_h f^h)_{ci} \cdot \sigma(W_w f^w)_{cj}, \qquad "
             r"[f^h; f^w] = \text{h-swish}\!\left(\mathrm{BN}(W\,[\mathrm{mean}_j x;\ "
             r"\mathrm{mean}_i x])\right)",
    "triplet": r"y = \tfrac13\, x \cdot \left[M_1(x^{c \leftrightarrow i}) + "
               r"M_2(x^{c \leftrightarrow j}) + M_3(x)\right], \qquad M_k \text{ as } M_s",
    "nab": r"y = x \cdot \sigma(w^\top x_{ij} + b) \cdot \max_{ij}\, \sigma\!\left(K_{7 \times 7} "
           r"\, x + c\right)",
    "simam": r"y = x \cdot \sigma\!\left(\frac{(x - a)^2}{4\,(v + \lambda)} + \frac12\right), "
             r"\qquad v_c = \mathrm{var}_{ij}\, x_{cij}",
    "aa": r"y = \left[K\, x;\ W_o\,\mathrm{MHA}(x)\right], \qquad \mathrm{head} = "
          r"\mathrm{softmax}\!\left(\frac{q k^\top}{\sqrt{d}} + S^H + S^W\right) v",
    "sk": r"y = \alpha \cdot U_1 + (1 - \alpha) \cdot U_2, \qquad U_1 = K_1\, x,\ U_2 = K_2\, x, "
          r"\quad (\alpha, 1 - \alpha) = \mathrm{softmax}\!\left(A z, B z\right)",
    "hybrid": r"y = \mathrm{CBAM}(\mathrm{SE}(x)) = x'' \cdot M_s(x''), \qquad x'' = x' \cdot "
              r"M_c(x'), \quad x' = \mathrm{SE}(x)",
    "hybrid_p0": r"y = x'' \cdot \sigma\!\left(K_{7 \times 7}\, [\max_c x'';\ \mathrm{mean}_c\, "
                 r"x'']\right), \qquad x'' = \mathrm{SE}_2(\mathrm{SE}_1(x))",
    "hybrid_sum": r"y = x + \alpha\,\mathrm{SE}(x) + (1 - \alpha)\,\mathrm{CBAM}(x), \qquad "
                  r"\alpha = \sigma(t)",
    "hybrid_par": r"y = x \cdot \sigma\!\left(W_2\,\mathrm{relu}(W_1 a) + \mathrm{MLP}(a) + "
                  r"\mathrm{MLP}(m)\right) \cdot M_s(x)",
    "se_sa": r"y = x' \cdot M_s(x'), \qquad x' = x \cdot \left(1 + \sigma\!\left(W_2\,\mathrm{relu}"
             r"(W_1 a)\right)\right)",
    "sec_sa": r"y = x' \cdot M_s(x'), \qquad x' = x \cdot \sigma\!\left(W_2\,\mathrm{relu}(W_1 a + "
              r"b_1) + b_2\right)",
    "new": r"y = x \cdot M_s(x) \cdot \left(1 + \sigma\!\left(W_2\,\mathrm{relu}(W_1 a)\right)"
           r"\right), \qquad a = \mathrm{mean}_{ij}\, x",
    "fca": r"y = x \cdot \sigma\!\left(W_2\,\mathrm{relu}(W_1 f)\right), \qquad f_c = \sum_{ij} "
           r"x_{cij}\, d_{u_c}(i)\, d_{v_c}(j)",
    "ela": r"y_{cij} = x_{cij} \cdot \sigma(\mathrm{GN}(K\, \mathrm{mean}_j x))_{ci} \cdot "
           r"\sigma(\mathrm{GN}(K\, \mathrm{mean}_i x))_{cj}",
    "ema": r"y = x \cdot \sigma(p_1^\top U_2 + p_2^\top U_1), \qquad p_k = \mathrm{softmax}_c\,"
           r"\mathrm{mean}_{ij} U_k \text{ in each group of channels}",
    "mca": r"y = \tfrac13\, x \cdot (g_c + g_i + g_j), \qquad g_d = \sigma\!\left(K_d "
           r"(w_1\, \mathrm{mean} + w_2\, \mathrm{sd})\right)",
    "scsa": r"y = z \cdot \sigma(\mathrm{mean}_{ij}\, p v), \qquad p = \mathrm{softmax}(q k^\top / "
            r"\sqrt{d}) \text{ between channels}, \quad z = x \cdot g_i \cdot g_j",
    "mlca": r"y = \tfrac12\, x \cdot \left(\sigma(K_1 L) + \sigma(K_2 a)\right), \qquad L "
            r"\text{ the means of } 5 \times 5 \text{ pieces}",
    "mhsa": r"y = z + \mathrm{MLP}(\mathrm{LN}(z)), \qquad z = x + \mathrm{MHSA}(\mathrm{LN}(x))",
    "replica_cbam_p2": r"y = x' \cdot \sigma(K\, [\max_c x';\ \mathrm{mean}_c\, x']), \qquad "
                       r"x' = x \cdot \sigma\!\left(\mathrm{relu}(W a + b) + \mathrm{relu}(W m + b)"
                       r"\right), \quad W \in \mathbb{R}^{C \times C}",
    "replica_cbam_p2_intended": r"y = x' \cdot \sigma(K\, [\max_c x';\ \mathrm{mean}_c\, x']), "
                                r"\qquad x' = x \cdot \sigma\!\left(\mathrm{relu}(\mathrm{MLP}(a)) "
                                r"+ \mathrm{relu}(\mathrm{MLP}(m))\right)",
    "replica_aa_p1": r"y = \left[K\, x;\ W_o\,\mathrm{MHA}(\tilde x)\right], \qquad \tilde x "
                     r"\text{ with channels and places mixed up}",
}
SHELVES = {
    "gates from the mean": ("se", "ser", "sec", "eca", "ge"),
    "gates from more than the mean": ("srm", "gc"),
    "controls": ("layerscale", "shuffled", "frozen"),
    "CBAM and its parts": ("ca", "sa", "cbam", "cbam_avg"),
    "channels and places otherwise": ("bam", "scse", "coord", "triplet", "nab", "simam"),
    "in place of a convolution": ("aa", "sk"),
    "SE with CBAM": ("hybrid", "hybrid_p0", "hybrid_sum", "hybrid_par"),
    "SE with places": ("se_sa", "sec_sa", "new"),
    "newer blocks": ("fca", "ela", "ema", "mca", "scsa", "mlca", "mhsa"),
    "replicas of faulty blocks": ("replica_cbam_p2", "replica_cbam_p2_intended", "replica_aa_p1"),
}
UNDRAWN = ("ema", "mca", "scsa", "mlca")         # too many steps for one picture on a page
LINKS = {r"doi:([\w./-]*\w)": r"[doi:\1](https://doi.org/\1)", r"arXiv:(\d{4}\.\d{4,5})": r"[arXiv:\1](https://arxiv.org/abs/\1)",
         r"(?<!/)github\.com/([\w-]+/[\w-]+)": r"[github.com/\1](https://github.com/\1)",
         r"PMLR 139": "[PMLR 139](https://proceedings.mlr.press/v139/yang21o.html)"}


def all_cards() -> str:
    """Markdown: every block, shelf by shelf."""
    return "\n\n".join(f"## {shelf[0].upper()}{shelf[1:]}\n\n" + "\n\n".join(map(card_text, names))
                       for shelf, names in SHELVES.items())


def card_text(name: str) -> str:
    """Markdown: heading, equation, docstring with its links, picture, folded source."""
    picture = (f"![What {said(name)} computes, step by step](../figures/readme/block_{name}.png)"
               "\n\n")
    return (f"### {said(name)} · `{name}`\n\n$$ {EQUATIONS[name]} $$\n\n"
            f"{text_of(BLOCKS[name].make)}\n\n{'' if name in UNDRAWN else picture}"
            f"<details><summary>Source</summary>\n\n"
            f"```python\n{blocks.source(name)}\n```\n\n</details>")


def save_diagrams() -> None:
    """The pictures of the cards, in ``figures/readme``."""
    for name in [name for name in EQUATIONS if name not in UNDRAWN]:
        figure = diagram(name)
        files.write_atomic(figures_dir("readme") / f"block_{name}.png", png(figure, 90))
        plt.close(figure)


def text_of(cls) -> str:
    """A class's docstring, papers as links."""
    text = inspect.getdoc(cls)
    for pattern, link in LINKS.items():
        text = re.sub(pattern, link, text)
    return text
