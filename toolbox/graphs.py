"""What stands before and behind the net in an ONNX file: a picture of any size made as large as the
net's, and logits as large as the picture. Only who has onnxscript can import this.

These functions are not run: onnxscript reads them and writes each line as nodes of the graph. Sides
are known only when a picture comes in; the graph works out what follows from them, in double as
OpenCV does.
"""

from onnxscript import DOUBLE, FLOAT, INT32, INT64, UINT8, script
from onnxscript import opset18 as op
from onnxscript.values import Opset

OURS = Opset("unet", 1)  # the domain of the functions below
PICTURE = UINT8["height", "width", 3]
SIDES = INT64[2]
IMAGES = FLOAT[1, 3, "h", "w"]
LOGITS = FLOAT[1, "classes", "h", "w"]
IDS = UINT8["height", "width"]
CONFIDENCE = FLOAT["height", "width"]
STRIP = 2**24  # logits that are enlarged at once: a big picture's would not fit into memory


# ---- smaller, as OpenCV's INTER_AREA: the mean of what a pixel covers ----


@script(OURS, default_opset=op)
def area_taps(source, target):
    """The pixels that each new one covers on a side, with their weights: both (taps, target).

    Also how many it covers, and whether that is a whole number.
    """
    exact = 1.0 / (target / source)
    rounded = op.Round(exact)
    is_whole = op.Abs(exact - rounded) < 1e-12
    scale = op.Where(is_whole, rounded, exact)
    starts = op.Range(0.0, target, 1.0) * scale
    ends = starts + scale
    covered = op.Min(scale, source - starts)
    last = op.Min(op.Floor(ends), source - 1.0)
    first = op.Min(op.Ceil(starts), last)
    whole = last - first  # pixels that are covered from end to end
    head = op.Where(first - starts > 1e-3, (first - starts) / covered, 0.0)
    rest = op.Min(op.Min(ends - last, 1.0), covered)
    tail = op.Where(ends - last > 1e-3, rest / covered, 0.0)
    taps = op.Range(0.0, op.ReduceMax(whole, keepdims=0) + 2.0, 1.0)
    tap = op.Unsqueeze(taps, [1])
    weights = op.Where(tap == whole + 1.0, tail, 0.0)
    weights = op.Where(tap <= whole, 1.0 / covered, weights)
    weights = op.Where(tap == 0.0, head, weights)
    places = op.Clip(first - 1.0 + tap, 0.0, source - 1.0)
    return op.Cast(places, to=INT64.dtype), op.Cast(weights, to=FLOAT.dtype), scale, is_whole


@script(OURS, default_opset=op)
def weighted_sum(x, places, weights):
    """The rows of x (n, m, 3) that each new one covers, times their weights, added one by one: in
    another order float32 would round otherwise."""
    shape = op.Concat(op.Shape(places, start=1, end=2), op.Shape(x, start=1, end=3), axis=0)
    total = op.Expand(0.0, shape)
    taps = op.Squeeze(op.Shape(places, start=0, end=1))
    for i in range(taps):
        rows = op.Cast(op.Gather(x, op.Gather(places, i)), to=FLOAT.dtype)
        total = total + rows * op.Unsqueeze(op.Gather(weights, i), [1, 2])
    return total


@script(OURS, default_opset=op)
def averaged(picture, source, target):
    """A picture uint8 (H, W, 3) as float (h, w, 3) of whole numbers."""
    rows, row_weights, tall, is_tall = area_taps(op.Gather(source, 0), op.Gather(target, 0))
    columns, column_weights, wide, is_wide = area_taps(op.Gather(source, 1), op.Gather(target, 1))
    is_whole = op.And(is_tall, is_wide)  # then OpenCV adds up, and divides last
    row_weights = op.Where(is_whole, op.Ceil(row_weights), row_weights)
    column_weights = op.Where(is_whole, op.Ceil(column_weights), column_weights)
    x = weighted_sum(op.Transpose(picture, perm=[1, 0, 2]), columns, column_weights)
    x = weighted_sum(op.Transpose(x, perm=[1, 0, 2]), rows, row_weights)
    share = op.Cast(op.Where(is_whole, 1.0 / (tall * wide), 1.0), to=FLOAT.dtype)
    x = x * share
    is_half = op.And(is_whole, op.And(tall == 2.0, wide == 2.0))  # halves go up there, else to even
    return op.Where(is_half, op.Floor(x + 0.5), op.Round(x))


# ---- larger, or narrower and taller: OpenCV's bilinear, in whole numbers ----


@script(OURS, default_opset=op)
def between(source, target, shrinks):
    """The pixel of a side before each new one's middle, and how far behind it that lies, 0..1."""
    inverse = target / source
    scale = 1.0 / inverse
    places = op.Range(0.0, target, 1.0)
    middles = op.Cast((places + 0.5) * scale - 0.5, to=FLOAT.dtype)
    before = op.Cast(op.Floor(middles), to=DOUBLE.dtype)
    behind = middles - op.Floor(middles)
    covered = op.Floor(places * scale)  # INTER_AREA's own idea of it, where one side grows
    ends = op.Cast((places + 1.0) - (covered + 1.0) * inverse, to=FLOAT.dtype)
    beyond = op.Where(ends <= 0.0, 0.0, ends - op.Floor(ends))
    return op.Where(shrinks, covered, before), op.Where(shrinks, beyond, behind)


@script(OURS, default_opset=op)
def neighbours(x, source, before, behind):
    """The two rows of x (n, m, 3) that each new one lies between, and their weights in 2048ths."""
    above = op.Cast(op.Clip(before, 0.0, source - 1.0), to=INT64.dtype)
    below = op.Cast(op.Clip(before + 1.0, 0.0, source - 1.0), to=INT64.dtype)
    upper = op.Cast(op.Gather(x, above), to=INT32.dtype)
    lower = op.Cast(op.Gather(x, below), to=INT32.dtype)
    share = op.Unsqueeze(behind, [1, 2])
    far = op.Cast(op.Round(share * 2048.0), to=INT32.dtype)
    near = op.Cast(op.Round((1.0 - share) * 2048.0), to=INT32.dtype)
    return upper, lower, near, far


@script(OURS, default_opset=op)
def interpolated(picture, source, target, shrinks):
    """A picture uint8 (H, W, 3) as float (h, w, 3) of whole numbers."""
    height = op.Gather(source, 0)
    width = op.Gather(source, 1)
    before, behind = between(width, op.Gather(target, 1), shrinks)
    is_inside = op.And(before >= 0.0, before < width - 1.0)
    behind = op.Where(is_inside, behind, 0.0)
    x = op.Transpose(picture, perm=[1, 0, 2])
    left, right, near, far = neighbours(x, width, before, behind)
    x = op.Transpose(left * near + right * far, perm=[1, 0, 2])
    x = op.Div(x, op.Cast(16, to=INT32.dtype))
    before, behind = between(height, op.Gather(target, 0), shrinks)
    upper, lower, near, far = neighbours(x, height, before, behind)
    part = op.Cast(65536, to=INT32.dtype)
    x = op.Div(upper * near, part) + op.Div(lower * far, part)
    x = op.Div(x + op.Cast(2, to=INT32.dtype), op.Cast(4, to=INT32.dtype))
    return op.Cast(x, to=FLOAT.dtype)


# ---- the two ends of the graph ----


@script(OURS, default_opset=op)
def before_net(picture: PICTURE, size: SIDES) -> tuple[IMAGES, SIDES]:
    """A picture of any size as the net takes it, toolbox.masks.resize_image in ONNX; its sides."""
    sides = op.Shape(picture, start=0, end=2)
    source = op.Cast(sides, to=DOUBLE.dtype)
    target = op.Cast(size, to=DOUBLE.dtype)
    shrinks = op.ReduceProd(source, keepdims=0) > op.ReduceProd(target, keepdims=0)
    no_side_grows = op.ReduceMin(source - target, keepdims=0) >= 0.0
    if op.And(shrinks, no_side_grows):
        small = averaged(picture, source, target)
    else:
        small = interpolated(picture, source, target, shrinks)
    images = op.Unsqueeze(op.Transpose(small, perm=[2, 0, 1]), [0])
    return images, sides


@script(OURS, default_opset=op)
def after_net(logits: LOGITS, sides: SIDES) -> tuple[IDS, CONFIDENCE]:
    """Logits enlarged to the picture's size, strip by strip as toolbox.tiles.upsampled has it, and
    each pixel's class and how probable it is."""
    height = op.Gather(sides, 0)
    width = op.Gather(sides, [1])
    classes = op.Shape(logits, start=1, end=2)
    rows = op.Squeeze(op.Shape(logits, start=2, end=3))
    step = op.Max(op.Squeeze(op.Div(STRIP, width * classes)), 1)
    per_row = op.Cast(rows, to=DOUBLE.dtype) / op.Cast(height, to=DOUBLE.dtype)
    last = op.Cast(rows, to=DOUBLE.dtype) - 1.0
    nothing = op.Concat([0], width, axis=0)
    all_ids = op.Expand(op.Cast(0, to=UINT8.dtype), nothing)
    all_confidence = op.Expand(0.0, nothing)
    for i in range(op.Div(height + step - 1, step)):
        lines = op.Range(i * step, op.Min(i * step + step, height), 1)
        middles = (op.Cast(lines, to=DOUBLE.dtype) + 0.5) * per_row - 0.5
        middles = op.Clip(middles, 0.0, last)
        above = op.Floor(middles)
        below = op.Min(above + 1.0, last)
        upper = op.Gather(logits, op.Cast(above, to=INT64.dtype), axis=2)
        lower = op.Gather(logits, op.Cast(below, to=INT64.dtype), axis=2)
        weight = op.Unsqueeze(op.Cast(middles - above, to=FLOAT.dtype), [1])
        strip = upper + (lower - upper) * weight
        shape = op.Concat([1], classes, op.Shape(lines), width, axis=0)
        strip = op.Resize(strip, None, None, shape, mode="linear")
        best = op.ReduceMax(strip, [1])
        parts = op.Exp(strip - best)  # softmax's, of which the best is 1
        confidence_here = op.Squeeze(1.0 / op.ReduceSum(parts, [1]), [0, 1])
        ids_here = op.Cast(op.Squeeze(op.ArgMax(strip, axis=1), [0, 1]), to=UINT8.dtype)
        all_ids = op.Concat(all_ids, ids_here, axis=0)
        all_confidence = op.Concat(all_confidence, confidence_here, axis=0)
    ids = op.Identity(all_ids)  # the outputs are called as what is returned
    confidence = op.Identity(all_confidence)
    return ids, confidence
