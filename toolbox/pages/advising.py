"""What to try next, from a finished run's figures: one function a rule, the most worth first."""

from toolbox.pages.markup import called, percent
from toolbox.pages.verdict import (
    AHEAD,
    CONFUSED,
    FEW_EVALUATIONS,
    FEW_PICTURES,
    RARE,
    Outcome,
    gap_of,
    is_by_heart,
    is_rising,
    number_of,
    taken_for,
)


def unlearnt(found: Outcome) -> str:
    """Classes that training never saw."""
    lacking = [found.names[i] for i in found.present() if not found.trained_on[i]]
    if not lacking:
        return ""
    names = ", ".join(map(called, lacking[:3]))
    return f"put pictures with {names} into training: none there has any, so it can't be learnt"


def longer(found: Outcome) -> str:
    if not is_rising(found):
        return ""
    steps = found.constants["training_iterations"] * 2
    return f"train longer: training_iterations={steps}"


def less_by_heart(found: Outcome) -> str:
    if not found.history or not (is_by_heart(found) or gap_of(found) > AHEAD):
        return ""
    cures = []
    if found.constants["augment_strength"] < 2:
        cures.append("augment_strength=2")
    if not found.constants["mix"]:
        cures.append("mix=0.5")
    elif not any(found.constants["dropout"]):
        cures.append("dropout=0.1")
    cures.append("more training pictures")
    return f"keep it from learning by heart: {', or '.join(cures)}"


def larger_net(found: Outcome) -> str:
    """Where not even the training pictures are learnt."""
    if len(found.history) < FEW_EVALUATIONS or is_rising(found) or is_by_heart(found):
        return ""
    if number_of(found.history[-1], "train_mean_iou") > 0.8:
        return ""
    wider = ",".join(str(2 * width) for width in found.constants["features"])
    return f"a larger net, as training pictures are not learnt either: features={wider}"


def rare_classes(found: Outcome) -> str:
    """Classes of few pixels that score far below the others."""
    rare = []
    for i in found.present():
        share = found.scores["classes"][i]["share"]
        if share < RARE and found.iou(i) < found.scores["mean_iou"] - 0.05:
            rare.append(i)
    if not rare:
        return ""
    words = f"for what is rare or thin ({', '.join(called(found.names[i]) for i in rare[:3])})"
    cures = []
    if found.scale < 0.9:
        height, width = (round(side * 1.5) for side in found.constants["image_size"])
        cures.append(
            f"a larger image_size, such as {height},{width}: pictures are shrunk to "
            f"{percent(found.scale)} of their sides now"
        )
    if not found.constants["class_weights"] and found.constants["loss"].startswith(("ce", "focal")):
        cures.append("class_weights=0.5")
    if found.constants["patch"] > 1:
        cures.append("patch=1, every pixel by itself, though a step then takes much longer")
    cures.append("more training pictures with it")
    return f"{words}: {'; or '.join(cures)}"


def unclear_masks(found: Outcome) -> str:
    """Two classes of which one is often taken for the other."""
    worst = (0.0, 0, 0)
    for i in found.present():
        other, share = taken_for(found.counts, i)
        if found.counts[i, i]:
            worst = max(worst, (share, i, other))
    share, i, other = worst
    if share < CONFUSED:
        return ""
    one, two = called(found.names[i]), called(found.names[other])
    return (
        f"look at the masks of {one} and {two}: {percent(share)} of {one} is taken for {two}; "
        "where they are not drawn alike in all pictures, settings help little"
    )


def few_judged(found: Outcome) -> str:
    if found.pictures >= FEW_PICTURES:
        return ""
    return (
        f"label more pictures to judge by: {found.pictures} in {found.split} say little about the "
        "next ones"
    )


RULES = (unlearnt, longer, less_by_heart, larger_net, rare_classes, unclear_masks, few_judged)


def what_to_try(found: Outcome) -> list[str]:
    """Sentences, or one that says that nothing stands out."""
    found_out = [rule(found) for rule in RULES]
    sentences = [sentence for sentence in found_out if sentence]
    return sentences or ["nothing stands out in these figures: more pictures help most"]
