"""The engine that a test program's machines run on: the software processor, or what BYGONE_TEST_ENGINE says. tests/long/kvm/run gives such
a program a real KVM; that machine is emulated, and so a limit there is longer."""
import os

ENGINE = os.environ.get("BYGONE_TEST_ENGINE", "software")


def limit(seconds):
    """How long to wait before a machine counts as hung."""
    return seconds if ENGINE == "software" else 10 * seconds
