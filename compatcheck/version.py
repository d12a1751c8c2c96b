"""The version, where every room can import it, and those of installed packages."""

__version__ = "0.1.0"


def installed(package: str) -> str:
    """The version of a package. What finds it takes a hundredth of a second to import, so that is left until then."""
    from importlib.metadata import version

    return version(package)
