"""Build steps that pyproject.toml cannot express: the site files through which nnU-Net finds the plugin's trainers.

nnU-Net looks for trainers outside its own package in the folders named by the environment variable
``nnUNet_extTrainer``. A line in a ``.pth`` file of site-packages, run at every interpreter start, appends our discovery
folder to that variable. Python 3.15 and later read the ``.start`` file of the same name instead (PEP 829).
"""

import base64
import hashlib
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

NAME = "zz_nnunet_ext"  # sorts last, so a .pth that makes an editable nnU-Net importable has run before it

# One self-contained expression: importing even a small module of ours would cost every Python process milliseconds.
PTH = (
    "import os; (lambda folder, name: os.environ.__setitem__(name, os.pathsep.join("
    "[p for p in os.environ.get(name, '').split(os.pathsep) if p.strip()] + [folder])) "
    "if os.path.isdir(folder) and folder not in os.environ.get(name, '').split(os.pathsep) else None)"
    "({folder}, 'nnUNet_extTrainer')\n"
)
START = "nnunet_ext._startup:register\n"
IN_SITE_PACKAGES = "os.path.join(sitedir, 'nnunet_ext', '_discovery')"  # sitedir: local variable of the site module


def site_files(folder_expression):
    """Name and text of the two site files; ``folder_expression`` is Python source for the discovery folder."""
    return {f"{NAME}.pth": PTH.format(folder=folder_expression), f"{NAME}.start": START}


class BuildWithSiteFiles(build_py):
    """Regular builds: the site files go to the top of the wheel, next to the package."""

    def run(self):
        super().run()
        if not self.editable_mode:
            for name, text in site_files(IN_SITE_PACKAGES).items():
                self.mkpath(self.build_lib)
                Path(self.build_lib, name).write_text(text, encoding="utf-8")

    def get_outputs(self, include_bytecode=True):
        outputs = super().get_outputs(include_bytecode)
        if not self.editable_mode:
            outputs += [str(Path(self.build_lib, name)) for name in site_files("")]
        return outputs


class EditableWithSiteFiles(editable_wheel):
    """Editable installs: the wheel holds no package, so its site file names the source folder absolutely."""

    def run(self):
        super().run()
        # ascii: Python before 3.13 reads .pth files in the encoding of the locale
        source = str(Path(__file__).resolve().parent / "nnunet_ext" / "_discovery")
        for wheel in Path(self.dist_dir).glob("nnunet_ext-*.whl"):
            add_to_wheel(wheel, site_files(ascii(source)))


def add_to_wheel(wheel, files):
    """Adds text files at the top of a wheel, with their rows in its RECORD, so that uninstalling removes them too."""
    handle, name = tempfile.mkstemp(suffix=".whl", dir=wheel.parent)
    os.close(handle)
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(name, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename.endswith(".dist-info/RECORD"):
                content += "".join(record_row(path, text) for path, text in files.items()).encode()
            new.writestr(item, content)
        for path, text in files.items():
            new.writestr(path, text)
    shutil.move(name, wheel)


def record_row(path, text):
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(text.encode())}\n"


setup(cmdclass={"build_py": BuildWithSiteFiles, "editable_wheel": EditableWithSiteFiles})
