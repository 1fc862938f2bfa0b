"""Certificates for tests, made with the openssl command line in a folder of the test's own."""

import atexit
import functools
import pathlib
import shutil
import subprocess
import tempfile

EXTENSIONS = "basicConstraints=CA:FALSE\nsubjectAltName={names}\n{more}"


def openssl(folder, *words, **options):
    """Runs it; returns what it printed. Fails with what it said."""
    run = subprocess.run(["openssl", *map(str, words)], cwd=folder, capture_output=True, text=True,
                         timeout=60, check=False, **options)
    assert run.returncode == 0, run.stderr
    return run.stdout


class Pki:
    """A CA and what it signs. Files are NAME.pem and NAME.key; the CA's are ca.pem and ca.key."""

    def __init__(self, folder, name="Test CA"):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.revoked = []
        openssl(self.folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-nodes", "-days", 90, "-keyout", "ca.key", "-out", "ca.pem", "-subj", f"/CN={name}")
        for file in ("index.txt", "index.txt.attr"):
            (self.folder / file).write_text("")
        (self.folder / "serial").write_text("1000")
        (self.folder / "crlnumber").write_text("01")
        (self.folder / "ca.cnf").write_text(
            "[ca]\ndefault_ca=own\n[own]\ndir=.\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\n"
            "crlnumber=crlnumber\ncertificate=ca.pem\nprivate_key=ca.key\ndefault_md=sha256\n"
            "default_crl_days=30\npolicy=any\ncopy_extensions=none\nunique_subject=no\n"
            "[any]\ncommonName=supplied\norganizationName=optional\n"
            "organizationalUnitName=optional\n")

    def path(self, name):
        """Where a file is."""
        return self.folder / name

    def issue(self, name, *, subject=None, names="DNS:localhost,IP:127.0.0.1", end=None, start=None,
              more=""):
        """A key and a certificate; start, end: YYYYMMDDHHMMSSZ. Returns the certificate's path."""
        openssl(self.folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject or f"/CN={name}")
        self.path("ext").write_text(EXTENSIONS.format(names=names, more=more))
        dates = ["-startdate", start] if start else []
        dates += ["-enddate", end] if end else ["-days", 60]
        openssl(self.folder, "ca", "-batch", "-notext", "-config", "ca.cnf", "-in", f"{name}.csr",
                "-out", f"{name}.pem", "-extfile", "ext", *dates)
        return self.path(f"{name}.pem")

    def revoke(self, name):
        """Notes that a certificate is revoked, for the next list."""
        openssl(self.folder, "ca", "-config", "ca.cnf", "-revoke", f"{name}.pem")

    def write_list(self, name="crl.pem", *dates):
        """The list of what is revoked; put in place as a whole."""
        openssl(self.folder, "ca", "-config", "ca.cnf", "-gencrl", "-out", "crl.new", *dates)
        self.path("crl.new").rename(self.path(name))
        return self.path(name)


@functools.cache
def shared():
    """A CA with a certificate `server`, for all tests of this process that only need some."""
    folder = tempfile.mkdtemp(prefix="tidemq-pki-")
    atexit.register(shutil.rmtree, folder)
    pki = Pki(folder)
    pki.issue("server")
    return pki
