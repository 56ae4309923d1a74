"""Paired figures: the value with a mirror, its ratio to mirrors off, and how sure that ratio is."""
import statistics

MIB = 1 << 20


def compared(told, key, pairs, scale, unit):
    """Notes the median with a mirror and the ratios to mirrors off in `told`, and words both."""
    if not pairs:
        return ""
    ratios = sorted(b / a for a, b in pairs if a)
    value = statistics.median(b for _, b in pairs) * scale
    told[key] = {"with_mirror": value, "ratios": ratios}
    return f"{value:.2f}{unit} x{statistics.median(ratios):.2f}"


def interval(ratios):
    """What the median lies within, 19 times of 20: order statistics, with no assumption on how the
    values are spread. With fewer than six values all that there is."""
    ordered, count = sorted(ratios), len(ratios)
    # The largest k with P(Binomial(n, 1/2) < k) <= 2.5 %.
    below, k = 0.0, 0
    ways = 1
    for at in range(count):
        below += ways / 2**count
        if below > 0.025:
            break
        k, ways = at + 1, ways * (count - at) // (at + 1)
    return (ordered[max(0, k - 1)], ordered[count - max(1, k)]) if ordered else (None, None)


def worded(ratios):
    """`1.02 (0.98-1.07)`, or nothing."""
    if not ratios:
        return ""
    low, high = interval(ratios)
    return f"{statistics.median(ratios):.2f} ({low:.2f}-{high:.2f})"
