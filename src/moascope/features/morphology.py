"""Classical features of a crop: intensity, texture, granularity, objects, and channel pairs."""

from __future__ import annotations

import functools

import numpy as np

PERCENTILES = (5, 25, 50, 75, 95, 99)
BAND_SIGMAS = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.7, 8.0, 11.3)
WAVELET_SCALES = (2.0, 4.0, 8.0, 16.0)  # pixels a cycle / 2
WAVELET_TURNS = 4
GRANULE_RADII = (1, 2, 3, 4, 6, 8)
HARALICK = ("AngularSecondMoment", "Contrast", "Correlation", "Variance",
            "InverseDifferenceMoment", "SumAverage", "SumVariance", "SumEntropy", "Entropy",
            "DifferenceVariance", "DifferenceEntropy", "InfoMeas1", "InfoMeas2")
HARALICK_DISTANCES = (1, 3, 6)
GREYS = 32

_INTENSITY = ("Mean", "SD", "Skewness", "Kurtosis", "Entropy",
              *(f"P{share:02d}" for share in PERCENTILES))
_BANDS = tuple(f"Band{kind}_{low:g}" for low in BAND_SIGMAS[:-1]
               for kind in ("Energy", "Skewness", "Kurtosis"))
_ORDER1 = tuple(f"Wavelet_{kind}_{scale:g}" for scale in WAVELET_SCALES for kind in ("Mean", "Anisotropy"))
_ORDER2 = tuple(f"Wavelet2_{a:g}_{b:g}" for i, a in enumerate(WAVELET_SCALES)
                for b in WAVELET_SCALES[i + 1:])
_GRANULES = tuple(f"Granularity_{radius}" for radius in GRANULE_RADII)
_TEXTURE = tuple(f"Haralick_{name}_{distance}" for distance in HARALICK_DISTANCES
                 for name in HARALICK)
_OBJECTS = ("Objects_Count", "Objects_Share", "Objects_AreaMean", "Objects_AreaSD",
            "Objects_Elongation", "Objects_Solidity", "Objects_Contrast", "Objects_EdgeSlope",
            "Objects_InnerSD")
NAMES = (*_INTENSITY, *_BANDS, *_GRANULES, *_TEXTURE, *_OBJECTS)
PAIR_NAMES = ("Pearson", "PearsonCoarse", "PearsonFine", "Overlap", "MandersA", "MandersB",
              "AInB", "BInA", "ARoundB", "BRoundA")


def measure(planes: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w] -> float32 [n, len(NAMES)]"""
    if not len(planes):
        return np.zeros((0, len(NAMES)), np.float32)
    return np.concatenate([
        np.concatenate([intensity(part), bands(part), granularity(part),
                        texture(part), objects(part)], axis=1)
        for part in np.array_split(planes, -(-len(planes) // 16))
    ]).astype(np.float32)


def _moments(values):
    centred = values - values.mean(axis=(1, 2), keepdims=True)
    var = (centred**2).mean(axis=(1, 2))
    sd = np.sqrt(var)
    safe = np.maximum(sd, 1e-3)
    square = centred * centred
    skew = (square * centred).mean(axis=(1, 2)) / safe**3
    kurt = (square * square).mean(axis=(1, 2)) / safe**4
    return sd, np.arcsinh(skew), np.log1p(kurt)


def intensity(planes):
    values = planes.astype(np.float32)
    sd, skew, kurt = _moments(values)
    flat = planes.reshape(len(planes), -1)
    counts = np.stack([np.bincount(p, minlength=256) for p in flat]) / flat.shape[1]
    cum = np.cumsum(counts, axis=1)
    pct = np.stack([(cum < s / 100).sum(axis=1) for s in PERCENTILES], axis=1)
    ent = -(counts * np.log2(np.maximum(counts, 1e-12))).sum(axis=1)
    return np.concatenate([np.stack([np.log1p(values.mean(axis=(1, 2))), np.log1p(sd), skew, kurt, ent], axis=1),
                           np.log1p(pct)], axis=1)


@functools.cache
def _bank(h, w):
    H, W = h, w
    fy, fx = np.fft.fftfreq(H)[:, None], np.fft.fftfreq(W)[None]
    r2 = fy**2 + fx**2
    lows = [np.exp(-2 * np.pi**2 * s**2 * r2) for s in BAND_SIGMAS]
    dog = np.stack([a - b for a, b in zip(lows[:-1], lows[1:])]).astype(np.float32)
    gab = []
    for s in WAVELET_SCALES:
        f0 = 0.5 / s * 0.9
        for t in range(WAVELET_TURNS):
            th = np.pi * t / WAVELET_TURNS
            u = fy * np.sin(th) + fx * np.cos(th)
            v = -fy * np.cos(th) + fx * np.sin(th)
            sig = 0.35 * f0
            g = np.exp(-((u - f0) ** 2 / (2 * sig**2) + v**2 / (2 * (sig * 1.3) ** 2)))
            g -= np.exp(-f0**2 / (2 * sig**2)) * np.exp(-(u**2 / (2 * sig**2) + v**2 / (2 * (sig * 1.3) ** 2)))
            gab.append(g)
    gab = np.stack(gab).astype(np.float32)
    return dog, gab


def bands(planes):
    import scipy.fft
    x = planes.astype(np.float32)
    dog, _ = _bank(*planes.shape[1:])
    F = scipy.fft.rfft2(x)
    k = F.shape[-1]
    out = []
    for d in dog:
        y = scipy.fft.irfft2(F * d[:, :k], s=planes.shape[1:])
        sd, sk, ku = _moments(y)
        out += [np.log(sd + 0.1), sk, ku]
    return np.stack(out, axis=1)


def wavelets(planes):
    import scipy.fft
    x = planes.astype(np.float32)
    _, gab = _bank(*planes.shape[1:])
    F = scipy.fft.fft2(x)
    L = WAVELET_TURNS
    first, mods = [], []
    for j in range(len(WAVELET_SCALES)):
        m = [np.abs(scipy.fft.ifft2(F * gab[j * L + t])) for t in range(L)]
        means = np.stack([v.mean(axis=(1, 2)) for v in m], 1)
        first += [np.log(means.mean(1) + 0.05), means.std(1) / (means.mean(1) + 0.05)]
        mods.append((m, means))
    second = []
    for j in range(len(WAVELET_SCALES)):
        m, means = mods[j]
        Fm = [scipy.fft.fft2(v) for v in m] if j + 1 < len(WAVELET_SCALES) else []
        for k in range(j + 1, len(WAVELET_SCALES)):
            tot = 0
            for t in range(L):
                for u in range(L):
                    tot = tot + np.abs(scipy.fft.ifft2(Fm[t] * gab[k * L + u])).mean(axis=(1, 2))
            second.append(np.log(tot / L / (means.sum(1) + 0.2) + 0.01))
    return np.stack(first + second, axis=1)


def granularity(planes):
    import scipy.ndimage as nd
    out = []
    for p in planes:
        prev = p.astype(np.float32); total = max(prev.sum(), 1.0); row = []
        for r in GRANULE_RADII:
            o = nd.grey_opening(p, (2 * r + 1, 2 * r + 1)).astype(np.float32)
            row.append((prev.sum() - o.sum()) / total); prev = o
        out.append(row)
    return np.asarray(out)


def texture(planes):
    import mahotas
    q = planes >> 3
    out = []
    for p in q:
        row = []
        for d in HARALICK_DISTANCES:
            if p.max() == 0:
                row.append(np.zeros(13)); continue
            row.append(mahotas.features.haralick(p, distance=d).mean(axis=0))
        out.append(np.concatenate(row))
    out = np.nan_to_num(np.asarray(out), posinf=0, neginf=0)
    return np.sign(out) * np.log1p(np.abs(out) * 100)


def objects(planes):
    import scipy.ndimage as nd
    import skimage.filters
    out = []
    for p in planes:
        x = nd.gaussian_filter(p.astype(np.float32), 1.0, truncate=3)
        if np.ptp(x) < 2:
            out.append(np.zeros(9)); continue
        t = skimage.filters.threshold_otsu(x, nbins=64)
        m = x > t
        lab, n = nd.label(m)
        area = np.bincount(lab.ravel(), minlength=n + 1)
        ok = np.flatnonzero(area[1:] >= 12) + 1
        if not len(ok):
            out.append(np.zeros(9)); continue
        yy, xx = np.nonzero(lab); l = lab[yy, xx]
        a = area[ok].astype(float)
        def s(v): return np.bincount(l, v, minlength=n + 1)[ok]
        my, mx = s(yy) / a, s(xx) / a
        vy, vx, vxy = s(yy * yy) / a - my**2 + 1/12, s(xx * xx) / a - mx**2 + 1/12, s(yy * xx) / a - mx * my
        d = np.sqrt(((vy - vx) / 2) ** 2 + vxy**2); mid = (vy + vx) / 2
        el = np.sqrt((mid + d) / np.maximum(mid - d, 0.05))
        ellipse = 4 * np.pi * np.sqrt(np.maximum((mid + d) * (mid - d), 1e-3))
        sol = a / ellipse
        i1 = s(p[yy, xx].astype(float)) / a; i2 = s(p[yy, xx].astype(float) ** 2) / a
        edge = m ^ nd.binary_erosion(m)
        w = a / a.sum()
        out.append([np.log1p(len(ok)), m.mean(), np.log(a.mean()), np.log(1+a.std()), np.log((el * w).sum()), (sol * w).sum(),
                    np.log1p((i1 * w).sum() - p[~m].mean()) if (~m).any() else 0, edge.sum() / m.sum(),
                    np.log1p((np.sqrt(np.maximum(i2 - i1**2, 0)) * w).sum())])
    return np.nan_to_num(np.asarray(out))


def measure_pairs(a, b):
    """two stacks -> float32 [n, len(PAIR_NAMES)]"""
    if not len(a):
        return np.zeros((0, len(PAIR_NAMES)), np.float32)
    import scipy.ndimage as nd
    import skimage.filters
    out = []
    for p, q in zip(a.astype(np.float32), b.astype(np.float32)):
        ps, qs = nd.gaussian_filter(p, 4, truncate=3), nd.gaussian_filter(q, 4, truncate=3)
        row = [_corr(p, q), _corr(ps, qs), _corr(p - ps, q - qs),
               (p * q).sum() / max(np.sqrt((p**2).sum() * (q**2).sum()), 1e-6)]
        p1, q1 = nd.gaussian_filter(p, 1, truncate=3), nd.gaussian_filter(q, 1, truncate=3)
        mp = p1 > skimage.filters.threshold_otsu(p1, nbins=64) if np.ptp(p1) > 2 else np.zeros(p.shape, bool)
        mq = q1 > skimage.filters.threshold_otsu(q1, nbins=64) if np.ptp(q1) > 2 else np.zeros(p.shape, bool)
        row += [p[mq].sum() / max(p.sum(), 1), q[mp].sum() / max(q.sum(), 1)]
        for x, m in ((p, mq), (q, mp)):
            ring = nd.binary_dilation(m, iterations=5) & ~nd.binary_dilation(m, iterations=1)
            ins = x[m].mean() if m.any() else 0; rg = x[ring].mean() if ring.any() else 0
            far = x[~(ring | m)].mean() if (~(ring | m)).any() else 0
            row += [np.log((ins + 2) / (rg + 2)), np.log((rg + 2) / (far + 2))]
        row[-3], row[-2] = row[-2], row[-3]
        out.append(row)
    return np.asarray(out, np.float32)


def _corr(x, y):
    x = x - x.mean(); y = y - y.mean()
    return float((x * y).sum() / max(np.sqrt((x**2).sum() * (y**2).sum()), 1e-6))
