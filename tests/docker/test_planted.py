"""Files that one user of a container leaves in it are run by that user's programs, and never by root's."""

from __future__ import annotations

import json
import uuid

import pytest

pytestmark = pytest.mark.docker

MARKS = "/marks"  # each line names a planted file that was run

# A careless or hostile user writes files that programs run or read by themselves into every writable directory.
PLANT = """
import os, sys
from pathlib import Path

MARK = 'open("/marks", "a").write(__file__ + "\\\\n")\\n'
SCRIPT = '#!/bin/sh\\necho "$0" >>/marks\\n'
version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
programs = ["python3", "python", version, "pip", "pip3", "runwide", "kfp", "tini", "sh", "bash", "ls", "id", "cat", "env"]
programs.append("planted")
modules = ["json", "click", "pip", "runwide", "runwide_image", "runwide_guard", "sitecustomize", "usercustomize"]
modules.append("planted")
shells = [".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".profile"]
conf = "[global]\\nindex-url = http://planted.invalid\\n"
files = {
    **{name: SCRIPT for name in programs},
    **{f"{name}.py": MARK for name in modules},
    **{f"{name}/__init__.py": MARK for name in ("json", "click")},
    **{name: 'echo "a start of a shell" >>/marks\\n' for name in shells},
    "planted.pth": 'import os; open("/marks", "a").write("a .pth\\\\n")\\n',
    **{name: conf for name in ("pip.conf", ".pip/pip.conf", ".config/pip/pip.conf")},
    f".local/lib/{version}/site-packages/usercustomize.py": MARK,
    f".local/lib/{version}/site-packages/planted.pth": 'import os; open("/marks", "a").write("a .pth\\\\n")\\n',
    **{f".local/bin/{name}": SCRIPT for name in programs},
}
device = os.stat("/").st_dev
writable, mounted = [], ["/home/runwide", "/opt/runwide/added", "/dev/shm"]
for top in ("/", *mounted):
    for folder, below, _ in os.walk(top):
        below[:] = [name for name in below if os.lstat(os.path.join(folder, name)).st_dev == device or top != "/"]
        if os.access(folder, os.W_OK) and "/python3." not in folder.partition("/lib/")[2].partition("site-packages")[2]:
            writable.append(folder)
planted = 0
for folder in dict.fromkeys(writable):
    for name, text in files.items():
        path = Path(folder, name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_text(text)
            path.chmod(0o755)
            planted += 1
        except OSError:
            pass  # another user's, in a directory like /tmp
print(planted)
"""

BY_ROOT = [
    ["python3", "-c", "import json, click, pip, runwide; json.dumps(1)"],
    ["python", "-m", "json.tool", "--help"],
    ["sh", "-c", "echo 'import json, click' >/root/own.py; python3 /root/own.py"],
    ["python3", "-c", "import runwide; runwide.map(abs, [-1, 2], workers=2)"],
    ["python3", "-c", "import subprocess; subprocess.run(['sh', '-c', 'id'], check=True)"],
    ["env", "python3", "-m", "site"],
    ["pip", "--version"],
    ["python3", "-m", "pip", "list"],
    ["runwide", "doctor"],
    ["runwide", "cores", "--json"],
    ["sh", "-c", "ls; id; cat /dev/null; env"],
    ["sh", "-lc", "true"],
    ["bash", "-ic", "true"],
    ["bash", "-lc", "exit"],
    ["tini", "--", "true"],
]
BASE_PYTHON = "cd / && $(python3 -c 'import sys; print(sys._base_executable)') -c 'import json, site'"


@pytest.fixture
def kept(engine, image):
    """Start containers that stay until the test ends, with their committed images and volumes."""
    made, images, volumes = [], [], []

    def keep(of: str = image, *, volume: str | None = None, **options):
        places = {"/home/runwide": "home", "/opt/runwide/added": "added"} if volume else {}
        mounts = {f"{volume}-{name}": {"bind": path, "mode": "rw"} for path, name in places.items()}
        volumes.extend(mounts)
        container = engine.containers.create(
            of, ["sleep", "600"], network_mode="none", init=True, volumes=mounts, **options
        )
        made.append(container)
        container.start()
        return container

    def commit(container) -> str:
        tag = f"runwide-test-{uuid.uuid4().hex[:12]}"
        container.commit(repository=tag)
        images.append(tag)
        return tag

    keep.commit = commit
    yield keep
    for container in made:
        container.remove(force=True)
    for tag in images:
        engine.images.remove(tag, force=True)
    for name in dict.fromkeys(volumes):
        engine.volumes.get(name).remove(force=True)


def said(container, *command: str, user: str = "0", status: int | None = 0, **options) -> str:
    """Run a command in a running container, and return its output."""
    ran = container.exec_run(list(command), user=user, **options)
    assert status is None or ran.exit_code == status, (command, ran.output.decode())
    return ran.output.decode()


def planted(container, user: str) -> None:
    said(container, "sh", "-c", f"install -m 666 /dev/null {MARKS}")
    assert int(said(container, "python3", "-c", PLANT, user=user)) > 100


@pytest.mark.parametrize(
    ("user", "kept_by"),
    [
        ("1000", "the container"),
        ("4321:4321", "the container"),
        ("1000", "an image"),
        ("4321:4321", "volumes"),
    ],
)
def test_root_runs_nothing_that_another_user_has_planted(kept, user, kept_by):
    volume = f"runwide-test-{uuid.uuid4().hex[:12]}" if kept_by == "volumes" else None
    container = kept(volume=volume)
    planted(container, user)
    assert said(container, "cat", MARKS) == ""
    if kept_by == "an image":
        container = kept(kept.commit(container))
    elif kept_by == "volumes":
        container = kept(volume=volume)
        said(container, "sh", "-c", f"install -m 666 /dev/null {MARKS}")
    for where in ("/home/runwide", "/tmp", "/opt/runwide/added"):
        for command in BY_ROOT:
            said(container, *command, workdir=where)
        assert said(container, "/bin/cat", MARKS) == "", where
    assert "planted" not in said(container, "pip", "config", "list")
    said(container, "sh", "-c", BASE_PYTHON)
    # A name that nothing else has.
    assert "planted" in said(container, "sh", "-c", "planted", status=127)
    said(container, "python3", "-c", "import planted", status=1)
    assert said(container, "cat", MARKS) == ""


def test_other_users_run_planted_files_so_the_test_above_can_fail(kept):
    container = kept()
    planted(container, "1000")
    said(container, "python3", "-c", "import json", user="1000", status=None)
    marks = said(container, "cat", MARKS)
    assert "a .pth" in marks
    assert "json" in marks


RIGHTS = """
import json, os, stat, sys
found = []
for folder, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(folder, name) not in ("/proc", "/sys", "/dev")]
    for name in (*folders, *files):
        path = os.path.join(folder, name)
        if os.path.islink(path):
            continue
        mode = os.lstat(path).st_mode
        if mode & (stat.S_ISUID | stat.S_ISGID) or "security.capability" in os.listxattr(path):
            found.append(path)
print(json.dumps(found))
"""


def test_no_file_has_setuid_setgid_or_capabilities(kept):
    assert json.loads(said(kept(), "python3", "-c", RIGHTS)) == []


def test_rights_of_a_file_are_found_by_the_test_above(kept):
    container = kept()
    said(container, "sh", "-c", "cp /bin/true /usr/bin/a && chmod u+s /usr/bin/a && cp /bin/true /usr/bin/b")
    # A capability of net_raw, version 2, as the kernel stores it.
    give = "import os; os.setxattr('/usr/bin/b', 'security.capability', bytes.fromhex('0100000200200000' + '00' * 12))"
    said(container, "python3", "-c", give)
    assert sorted(json.loads(said(container, "python3", "-c", RIGHTS))) == ["/usr/bin/a", "/usr/bin/b"]


OTHERS_MAY_WRITE = """
import json, os, stat, sys
places = [*os.environ["PATH"].split(":"), *sys.path[1:], sys.prefix, sys.base_prefix, sys.executable, os.environ["HOME"]]
wrong, seen = [], set()
while places:
    path = places.pop()
    if path in seen or not os.path.lexists(path):
        continue
    seen.add(path)
    link, found = os.lstat(path), os.stat(path)
    if link.st_uid or found.st_uid or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        wrong.append(path)
    places += [os.path.dirname(path), os.path.realpath(path)]
    if stat.S_ISDIR(found.st_mode) and (path in os.environ["PATH"].split(":") or path in sys.path):
        places += [os.path.join(path, name) for name in os.listdir(path)]
print(json.dumps([len(seen), wrong]))
"""


def test_only_root_may_write_the_folders_in_roots_search_paths_and_home(kept):
    looked_at, wrong = json.loads(said(kept(), "python3", "-c", OTHERS_MAY_WRITE))
    assert looked_at > 500
    assert wrong == []


@pytest.mark.parametrize("user", ["0", "1000", "4321:4321"])
def test_no_place_is_twice_on_the_path(kept, user):
    told = "import json, sys; print(json.dumps(sys.path))"
    path = json.loads(said(kept(), "python3", "-W", "error", "-c", told, user=user))
    assert len(path) == len(set(path))


def test_a_pth_that_a_user_installs_runs_once(kept):
    container = kept()
    said(container, "sh", "-c", f"install -m 666 /dev/null {MARKS}")
    site = said(
        container, "python3", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", user="1000"
    )
    line = f'import os; os.write(os.open("{MARKS}", os.O_WRONLY | os.O_APPEND), b"once")'
    said(container, "sh", "-c", f"echo '{line}' >{site.strip()}/one.pth", user="1000")
    said(container, "python3", "-c", "pass", user="4321:4321")
    assert said(container, "cat", MARKS) == "once"


# what root can do in a directory that others may write

OWN = """
mkdir {at} && chmod {mode} {at} && cd {at}
echo 'word = "roots own"' >own.py
mkdir package && echo 'from package import part' >package/__init__.py && echo 'word = "part"' >package/part.py
"""
IMPORTED = "import own, package; print(own.word, package.part.word)"


@pytest.mark.parametrize("mode", ["1777", "777", "775", "755"])
def test_root_finds_its_own_modules_in_a_directory_that_others_may_write(kept, mode):
    container = kept()
    at = "/tmp/shared"
    said(container, "sh", "-ec", OWN.format(at=at, mode=mode))
    assert said(container, "python3", "-c", IMPORTED, workdir=at) == "roots own part\n"
    said(container, "sh", "-c", f"echo '{IMPORTED}' >{at}/main.py")
    assert said(container, "python3", f"{at}/main.py", workdir="/") == "roots own part\n"
    as_function = """echo '["ab"]' >items.json; runwide map own:word.join items.json"""
    assert "aroots ownb" in said(container, "sh", "-c", as_function, workdir=at)


def test_compiled_files_of_another_user_beside_roots_module_are_not_run(kept):
    container = kept()
    said(container, "sh", "-ec", OWN.format(at="/tmp/shared", mode="1777"))
    compiled = """
import importlib.util, py_compile
from pathlib import Path
Path("/tmp/other.py").write_text('word = "planted"')
py_compile.compile("/tmp/other.py", importlib.util.cache_from_source("/tmp/shared/own.py"), doraise=True,
                   invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
"""
    said(container, "python3", "-c", compiled, user="1000")
    assert (
        said(container, "python3", "-c", "import own; print(own.word)", workdir="/tmp/shared")
        == "roots own\n"
    )
    in_hand = ["python3", "-c", "import own; print(own.word)"]
    assert said(container, *in_hand, workdir="/tmp/shared", user="1000") == "planted\n"


def test_root_does_not_follow_a_link_of_another_user(kept):
    container = kept()
    said(container, "sh", "-c", "mkdir /srv/own; echo 'print(1)' >/srv/own/danger.py")
    said(container, "ln", "-s", "/srv/own/danger.py", "/tmp/json.py", user="1000")
    program = "import json; print(json.__file__)"
    assert "/tmp" not in said(container, "python3", "-c", program, workdir="/tmp")


def test_root_goes_to_a_directory_of_one_other_user_because_it_means_that_users_files(kept):
    """For example, a checkout that is mounted into a container."""
    container = kept()
    said(container, "sh", "-c", "mkdir /tmp/work; echo 'word = 1' >/tmp/work/theirs.py", user="1000")
    printed = said(container, "python3", "-c", "import theirs; print(theirs.word)", workdir="/tmp/work")
    assert printed == "1\n"


# homes

HOMES = "import os, pathlib; print(pathlib.Path.home())"


@pytest.mark.parametrize(
    ("user", "home"), [("0", "/root"), ("1000", "/home/runwide"), ("4321:4321", "/home/runwide")]
)
def test_a_user_has_a_home_that_it_can_write(kept, user, home):
    container = kept()
    assert said(container, "python3", "-c", HOMES, user=user) == f"{home}\n"
    said(container, "python3", "-c", "import pathlib; (pathlib.Path.home() / 'x').touch()", user=user)


# packages

EXTRA = "def main():\n    print('installed')\n"
EXTRA_TOOL = {"extra-1.0.dist-info/entry_points.txt": "[console_scripts]\nextra-tool = extra:main\n"}


@pytest.mark.mounts
@pytest.mark.parametrize("user", ["1000", "4321:4321", "2000000000:0"])
def test_packages_that_a_user_installs_are_found_by_users_but_not_by_root(kept, wheel, user):
    path = wheel("extra", "1.0", EXTRA, more=EXTRA_TOOL)
    container = kept(mounts=[_shown(path.parent)])
    said(container, "python3", "-m", "pip", "install", "--quiet", "--no-index", str(path), user=user)
    program = "import subprocess, extra; subprocess.run(['extra-tool'], check=True)"
    for other in {user, "1000", "4321:4321"}:
        assert said(container, "python3", "-c", program, user=other) == "installed\n"
    said(container, "python3", "-c", "import extra", status=1)
    assert "extra" not in said(container, "pip", "list")
    said(container, "pip", "uninstall", "--quiet", "--yes", "extra", user=user)
    said(container, "python3", "-c", program, user=user, status=1)


@pytest.mark.mounts
def test_packages_that_root_installs_in_an_image_are_found_by_all(kept, wheel):
    path = wheel("extra", "1.0", EXTRA, more=EXTRA_TOOL)
    builder = kept(mounts=[_shown(path.parent)])
    said(builder, "pip", "install", "--quiet", "--no-index", "-c", "/opt/runwide/constraints.txt", str(path))
    container = kept(kept.commit(builder))
    for user in ("0", "1000", "4321:4321"):
        assert said(container, "sh", "-c", "extra-tool", user=user) == "installed\n"
    assert json.loads(said(container, "python3", "-c", OTHERS_MAY_WRITE))[1] == []


def _shown(folder):
    import docker

    return docker.types.Mount(str(folder), str(folder), type="bind", read_only=True)
