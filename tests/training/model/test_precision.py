"""What modules ask of engines: a class for its instances, a layer for itself."""

import pytest
from torch import nn

from dtfsal.training.model.precision import EnginePrecision, declared_precisions, with_precision


class Whole(nn.Module):
    engine_precision = EnginePrecision(int8=False)

    def __init__(self):
        super().__init__()
        self.last = with_precision(nn.Linear(2, 2), float32_after=True)


class Renaming(Whole):
    def __init__(self):
        super().__init__()
        self.logits = self.last
        del self.last


@pytest.mark.parametrize(("kind", "name"), [(Whole, "last"), (Renaming, "logits")])
def test_declarations_are_found_wherever_a_module_is(kind, name):
    model = nn.ModuleDict({"deep": nn.Sequential(nn.ReLU(), kind())})
    assert declared_precisions(model) == {
        "deep.1": EnginePrecision(int8=False),
        f"deep.1.{name}": EnginePrecision(float32_after=True),
    }


def test_a_declaration_of_another_type_is_refused():
    model = nn.ReLU()
    model.engine_precision = "float32"
    with pytest.raises(TypeError, match="EnginePrecision"):
        declared_precisions(model)
