"""Streets, the default: drawn when it is first needed."""

from types import ModuleType

from toolbox.bars import Counting
from toolbox.errors import InputError
from toolbox.files import writing
from toolbox.sources.base import Pair
from toolbox.sources.folder import Folder
from toolbox.sweeping import sweep_unfinished
from toolbox.values import IGNORE, Table


class Streets(Folder):
    """The drawn street scenes: laid out like a folder of one's own."""

    def maker(self) -> ModuleType:
        try:
            from Dataset import make_streets
        except ImportError as error:
            raise InputError(
                "Dataset/make_streets.py is not there, which draws Streets; get it back from the "
                "project, or name another dataset"
            ) from error
        return make_streets

    def find_pairs(self) -> list[Pair]:
        if not self.root.exists():
            sweep_unfinished(self.root.parent, "streets")
            with writing(self.root):
                self.maker().make_streets(self.root, Counting)
        return super().find_pairs()

    def table(self) -> Table:
        names, colors = zip(*self.maker().CLASSES)
        meaning = {**{i: i for i in range(len(names))}, IGNORE: IGNORE}
        return Table(list(names), list(colors), meaning)
