"""Statistics of paired differences: arrays in, numbers out. `stats` applies them to tables of runs.

``gaps`` is always the 1-D array of paired differences, arm − base, one a seed."""
import math

import numpy as np

ENUMERATED = 12         # up to so many seeds the sign-flip test goes through all 2^n signs
MOST_SEEDS = 10_000     # where `seeds_needed` stops counting


def t_half_width(sd: float, n: int, level: float = 0.95) -> float:
    """Half the width of the t interval of a mean: t_{n−1} · sd / √n."""
    from scipy import stats
    return float(stats.t.ppf(0.5 + level / 2, n - 1) * sd / math.sqrt(n))


def bca(gaps, level: float = 0.95, draws: int = 4000) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval of the mean (Efron 1987), scipy's, seeded.

    It follows a skewed sample where the t interval cannot, but resamples nothing that was not
    drawn: with few seeds it is too short (with 5 normal gaps its 95 % cover about 85 %, with 20
    about 93 %), so verdicts rest on the t interval and this one stands beside it."""
    from scipy import stats
    gaps = np.asarray(gaps, float)
    if not np.ptp(gaps):
        return float(gaps[0]), float(gaps[0])
    out = stats.bootstrap((gaps,), np.mean, confidence_level=level, n_resamples=draws,
                          method="BCa", rng=np.random.default_rng(0)).confidence_interval
    return float(out.low), float(out.high)


def sign_flip(gaps, draws: int = 20_000) -> float:
    """Two-sided p of the sign-flip permutation test: under no difference each gap is as likely to
    have the other sign. Exact through all 2^n signs up to n = 12, so that p is at least 2^(1−n):
    5 seeds cannot reach 0.05. Beyond, (k + 1) / (draws + 1) over seeded random signs."""
    gaps = np.asarray(gaps, float)
    n = len(gaps)
    if n <= ENUMERATED:
        signs = 1 - 2 * (np.arange(2 ** n)[:, None] >> np.arange(n) & 1)
    else:
        signs = np.random.default_rng(0).choice((-1, 1), (draws, n))
    extreme = np.abs(signs @ gaps) >= abs(gaps.sum()) * (1 - 1e-9)
    return float(extreme.mean() if n <= ENUMERATED else (extreme.sum() + 1) / (draws + 1))


def smallest_p(n: int) -> float:
    """The least two-sided p that the exact sign-flip test can give with n seeds."""
    return min(1.0, 2.0 ** (1 - n))


def seeds_for_holm(arms: int, alpha: float = 0.05) -> int:
    """The least seeds with which a sign-flip p can stay below α after Holm's factor for so many
    arms: 2^(1−n) · arms < α."""
    return next(n for n in range(1, 99) if smallest_p(n) * arms < alpha)


def hedges(gaps) -> float:
    """Hedges' g_z = J · mean / sd of the gaps, J = Γ(m/2) / (√(m/2) Γ((m−1)/2)) with m = n − 1:
    the effect in standard deviations of a paired difference, without small-sample bias. NaN below
    three seeds or without spread."""
    gaps = np.asarray(gaps, float)
    m, sd = len(gaps) - 1, gaps.std(ddof=1) if len(gaps) > 1 else 0.0
    if m < 2 or not sd:
        return math.nan
    log_j = math.lgamma(m / 2) - math.lgamma((m - 1) / 2) - math.log(m / 2) / 2
    return float(math.exp(log_j) * gaps.mean() / sd)


def prob_better(gaps, level: float = 0.95) -> tuple[float, float, float]:
    """P(A > B): the share of pairs in which the arm is higher, a tie counting half, with its
    Wilson score interval (Wilson 1927). With few pairs that is wide: 6 of 6 still allow 0.61."""
    from scipy import stats
    gaps = np.asarray(gaps, float)
    n, z = len(gaps), stats.norm.ppf(0.5 + level / 2)
    if not n:
        return math.nan, math.nan, math.nan
    share = float((gaps > 0).mean() + (gaps == 0).mean() / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return share, max(0.0, float(middle - half)), min(1.0, float(middle + half))


def holm(p) -> np.ndarray:
    """Holm's step-down adjustment (1979) of the p values of one family: rejecting what is below α
    keeps the chance of any false rejection in the family below α. NaN is no test and stays NaN."""
    p = np.asarray(p, float)
    out, there = np.full(len(p), math.nan), np.flatnonzero(~np.isnan(p))
    order = there[np.argsort(p[there], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    out[order] = np.minimum(1, np.maximum.accumulate(steps))
    return out


def tost(gaps, margin: float) -> tuple[float, float, float]:
    """Equivalence by two one-sided t tests (Schuirmann 1987): the p value of "the mean lies beyond
    ± margin", and the 90 % interval, which lies within the margin just where p < 0.05. Without any
    spread there is no test: p is NaN."""
    from scipy import stats
    gaps = np.asarray(gaps, float)
    n, mean, sd = len(gaps), gaps.mean(), gaps.std(ddof=1)
    half, room = t_half_width(sd, n, 0.9), margin - abs(mean)
    p = stats.t.sf(room / (sd / math.sqrt(n)), n - 1) if sd else math.nan
    return float(p), float(mean - half), float(mean + half)


def hierarchical(right_arm, right_base, level: float = 0.95, draws: int = 1000,
                 ) -> tuple[float, float, float]:
    """Mean difference in points and its bootstrap interval over seeds *and* test images: what
    another set of seeds and another test set would have given.

    ``right_*``: bool [seeds, images], whether each seed's network was right on each image, in
    pairs. All seeds answer the same images, so one draw of images serves every drawn seed (the
    crossed form, Owen's pigeonhole bootstrap, 2007); it errs towards too wide, and with few seeds,
    like any bootstrap over them, towards too short. Percentile interval, seeded."""
    gaps = np.asarray(right_arm, np.float32) - np.asarray(right_base, np.float32)
    seeds, images = gaps.shape
    rng, moving = np.random.default_rng(0), gaps[:, gaps.any(0)]    # the others add nothing
    means = np.empty(draws)
    for k in range(draws):
        drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds))
        each = np.bincount(rng.integers(images, size=images), minlength=images)[:moving.shape[1]]
        means[k] = drawn @ (moving @ each.astype(np.float32)) / (seeds * images)
    low, high = np.quantile(means, (0.5 - level / 2, 0.5 + level / 2))
    return float(100 * gaps.mean()), float(100 * low), float(100 * high)


def mcnemar(right_a, right_b) -> float:
    """Exact two-sided McNemar test of two given networks on the same images (bool [images]): a
    binomial test of the images on which just one is right. It says nothing about a block, whose
    next seed is another network (Dietterich 1998)."""
    from scipy import stats
    only_a = int((np.asarray(right_a) & ~np.asarray(right_b)).sum())
    only_b = int((np.asarray(right_b) & ~np.asarray(right_a)).sum())
    return float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def power_of(n: int, sd_diff: float, delta: float, alpha: float = 0.05) -> float:
    """The probability that a two-sided paired t test over n seeds finds the difference ``delta``:
    that |T| > t_{1−α/2, n−1} for T noncentral with δ√n / sd."""
    from scipy import stats
    shift = abs(delta) / sd_diff * math.sqrt(n) if sd_diff else math.inf
    if shift > 40:                              # 1 to the last digit; scipy may give NaN out here
        return 1.0
    limit = stats.t.ppf(1 - alpha / 2, n - 1)
    wrong_sign = stats.nct.cdf(-limit, n - 1, shift) if shift < 5 else 0.0      # below 1e-10
    return float(stats.nct.sf(limit, n - 1, shift) + wrong_sign)


def power_of_equivalence(n: int, sd_diff: float, margin: float, level: float = 0.95) -> float:
    """The probability that the t interval of n seeds lies within ± margin where nothing differs:
    E[(2Φ((margin·√n − t·s) / σ) − 1)₊] over the sample sd s, by its quantiles."""
    from scipy import stats
    if not sd_diff:
        return 1.0
    s = sd_diff * np.sqrt(stats.chi2.ppf((np.arange(400) + 0.5) / 400, n - 1) / (n - 1))
    room = margin * math.sqrt(n) - stats.t.ppf(0.5 + level / 2, n - 1) * s
    return float(np.maximum(0, 2 * stats.norm.cdf(room / sd_diff) - 1).mean())


def seeds_needed(sd_diff: float, delta: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """The fewest seeds with which a two-sided paired t test at ``alpha`` finds a true difference
    ``delta`` with probability ``power``, where paired differences have the standard deviation
    ``sd_diff``: exact, by the noncentral t distribution. ``MOST_SEEDS`` stands for that or more."""
    if not (sd_diff >= 0 and delta):
        raise ValueError(f"sd_diff={sd_diff} should be 0 or more, delta={delta} not 0")
    return fewest(lambda n: power_of(n, sd_diff, delta, alpha) >= power)


def seeds_for_equivalence(sd_diff: float, margin: float, power: float = 0.8) -> int:
    """The fewest seeds whose 95 % interval lies within ± margin with probability ``power`` where
    there is no difference at all. ``MOST_SEEDS`` stands for that or more."""
    if not (sd_diff >= 0 and margin > 0):
        raise ValueError(f"sd_diff={sd_diff} should be 0 or more, margin={margin} above 0")
    return fewest(lambda n: power_of_equivalence(n, sd_diff, margin) >= power)


def fewest(enough) -> int:
    """The least n from 2 on that is ``enough``, given that more are enough, too: by bisection."""
    low, high = 2, MOST_SEEDS
    while low < high:
        n = (low + high) // 2
        low, high = (low, n) if enough(n) else (n + 1, high)
    return low
