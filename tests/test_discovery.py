"""nnU-Net's own search for trainers reaches ours, and only when asked for them."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import textwrap

import pytest

from nnunet_ext._startup import DISCOVERY_FOLDER, VARIABLE
from nnunet_ext.errors import UserError
from nnunet_ext.trainers import registry

NAME = "nnUNetTrainerCFNet_seed3_2epochs"


@pytest.fixture
def find(monkeypatch):
    """nnU-Net's search with our folder alone in the environment."""
    monkeypatch.setenv(VARIABLE, DISCOVERY_FOLDER)
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    return recursive_find_trainer_class_by_name


def test_a_listed_trainer_is_found(find):
    from nnunet_ext.trainers.cfnet import nnUNetTrainerCFNet

    assert find("nnUNetTrainerCFNet") is nnUNetTrainerCFNet


def test_a_variant_is_found_under_the_requested_name_and_a_second_search_gives_the_same_class(find):
    trainer = find(NAME)
    assert trainer.__name__ == NAME
    assert find(NAME) is trainer


def test_found_classes_pickle(find, pickle_round_trip):
    for name in ("nnUNetTrainerCFNet", NAME, "nnUNetTrainerCFNet_lr1e-3"):
        trainer = find(name)
        assert pickle_round_trip(trainer) is trainer


def test_a_pickled_variant_is_found_again_by_a_process_that_never_searched(find, monkeypatch):
    pickled = pickle.dumps(find(NAME))
    monkeypatch.setattr(registry, "_made", {})
    monkeypatch.delitem(sys.modules, "nnunet_ext.trainers.cfnet")
    assert pickle.loads(pickled).__name__ == NAME


def test_the_search_leaves_no_module_of_the_discovery_folder_behind(find):
    find("nnUNetTrainerCFNet")
    assert "nnunet_ext_discovery" not in sys.modules
    assert DISCOVERY_FOLDER not in sys.path


def test_an_unknown_name_gives_the_error_of_nnunet(find):
    with pytest.raises(RuntimeError, match="Could not find requested nnunet trainer nnUNetTrainerNobodyWrote"):
        find("nnUNetTrainerNobodyWrote")


def test_for_an_unknown_name_no_network_and_no_trainer_of_ours_is_imported():
    code = """
        import json, sys
        from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
        for name in ("SomeTrainer", "nnUNetTrainerNobodyWrote"):
            try:
                recursive_find_trainer_class_by_name(name)
            except RuntimeError:
                print(json.dumps([module for module in sys.modules if module.startswith("nnunet_ext.")]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, VARIABLE: DISCOVERY_FOLDER},
        capture_output=True,
        text=True,
        check=True,
    )
    some, near = (set(json.loads(line)) for line in done.stdout.splitlines() if line.startswith("["))
    assert some == set()
    light = ("errors", "shown", "families", "trainers")
    tables = {f"nnunet_ext.trainers.{name}" for name in ("recipe", "registry", "suffixes", "variants")}
    tables |= {"nnunet_ext.lookup"}
    assert {name for name in near if not name.startswith("nnunet_ext.families.")} <= {
        *(f"nnunet_ext.{name}" for name in light),
        *tables,
    }


def test_an_unknown_suffix_gives_our_error_through_the_search(find):
    with pytest.raises(UserError, match="unknown suffix '_50epoch'"):
        find("nnUNetTrainerCFNet_50epoch")


def test_a_trainer_in_the_users_own_folder_wins(monkeypatch, tmp_path, find):
    (tmp_path / "my_trainers.py").write_text(
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
        "class nnUNetTrainerCFNet(nnUNetTrainer):\n    mine = True\n"
    )
    monkeypatch.setenv(VARIABLE, os.pathsep.join([str(tmp_path), DISCOVERY_FOLDER]))
    assert find("nnUNetTrainerCFNet").mine
    assert not hasattr(find("nnUNetTrainerCFNet_2epochs"), "mine")


def test_a_users_own_trainer_may_build_on_ours(monkeypatch, tmp_path, find):
    (tmp_path / "my_trainers.py").write_text(
        "from nnunet_ext.trainers.cfnet import nnUNetTrainerCFNet\n"
        "class nnUNetTrainerMine(nnUNetTrainerCFNet):\n    pass\n"
    )
    monkeypatch.setenv(VARIABLE, os.pathsep.join([str(tmp_path), DISCOVERY_FOLDER]))
    assert issubclass(find("nnUNetTrainerMine"), find("nnUNetTrainerCFNet"))


def test_stock_trainers_are_found_as_ever(find):
    assert find("nnUNetTrainer_1epoch").__module__.startswith("nnunetv2.")


def test_a_trainer_whose_package_is_missing_fails_alone(monkeypatch, tmp_path, find):
    (tmp_path / "needs_a_package.py").write_text("import a_package_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    row = registry.Trainer("nnUNetTrainerNeedy", "needs_a_package:nnUNetTrainerNeedy", "Needy", "needs a package")
    monkeypatch.setitem(registry.TRAINERS, row.name, row)
    for name in ("nnUNetTrainerNeedy", "nnUNetTrainerNeedy_5epochs"):
        with pytest.raises(ModuleNotFoundError, match="a_package_nobody_has"):
            find(name)
    assert find("nnUNetTrainerCFNet").__name__ == "nnUNetTrainerCFNet"


def test_the_longest_listed_name_is_the_base_of_a_variant():
    assert registry.canonical_name("nnUNetTrainerCFNet_paper_bf16_2epochs") == "nnUNetTrainerCFNet_paper_2epochs_bf16"
    assert registry.resolve("nnUNetTrainerCFNet_paper_2epochs").__mro__[1].__name__ == "nnUNetTrainerCFNet_paper"


def test_names_that_are_not_ours_are_none():
    for name in ("nnUNetTrainer", "nnUNetTrainerCFNetwork", "nnUNetTrainer_5epochs", "__path__"):
        assert registry.resolve(name) is None
        assert registry.canonical_name(name) is None
    with pytest.raises(AttributeError):
        registry.nnUNetTrainerCFNetwork  # noqa: B018


def test_the_table_is_read_without_torch():
    code = """
        import sys
        from nnunet_ext.trainers import registry
        registry.canonical_name("nnUNetTrainerCFNet_2epochs")
        print("torch" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
