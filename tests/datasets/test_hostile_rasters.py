"""Rasters in a third party's folder: GDAL opens no file elsewhere, sends no request and runs no code for them."""

import os
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
import rasterio
from archives import random_image, write_own_tiles, write_tif

from spectral_tl_bench.datasets.io.raster import open_raster, read_image
from spectral_tl_bench.utils.errors import DataError

SIZE = 16
SECRET = 4242


@pytest.fixture(scope="module")
def server():
    """A port of this machine, and the connections that it was asked for."""
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                connections.append(connection)
                connection.close()

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1], connections


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a harmless raster, and a secret one outside."""
    monkeypatch.setenv("GDAL_VRT_ENABLE_PYTHON", "YES")
    monkeypatch.setenv("EXECUTED", str(tmp_path / "executed"))
    write_tif(tmp_path / "secret.tif", np.full((1, SIZE, SIZE), SECRET, dtype="uint16"))
    inside = tmp_path / "theirs"
    write_tif(inside / "a.tif", random_image(1))
    (inside / "linked.tif").symlink_to(tmp_path / "secret.tif")
    (inside / "up").symlink_to(tmp_path)
    vrt(inside / "nested.vrt", source("a.tif"))
    # ENVI by its header, a virtual raster by its first bytes.
    text = dataset(band(source(str(tmp_path / "secret.tif"), relative="0")))
    (inside / "dressed.dat").write_text(text.ljust(2 * SIZE * SIZE))
    (inside / "dressed.hdr").write_text(
        f"ENVI\nsamples = {SIZE}\nlines = {SIZE}\nbands = 1\ndata type = 12\ninterleave = bsq\nbyte order = 0\n"
    )
    return inside


def dataset(bands, attributes=""):
    return f'<VRTDataset rasterXSize="{SIZE}" rasterYSize="{SIZE}"{attributes}>{bands}</VRTDataset>'


def band(inner, attributes=""):
    return f'<VRTRasterBand dataType="UInt16" band="1"{attributes}>{inner}</VRTRasterBand>'


def source(name, relative="1", kind="SimpleSource"):
    file = f'<SourceFilename relativeToVRT="{relative}">{name}</SourceFilename>'
    return f"<{kind}>{file}<SourceBand>1</SourceBand></{kind}>"


def vrt(path, inner):
    path.write_text(dataset(band(inner)))


def names(folder, port):
    """Names that lead elsewhere, with XML's own characters escaped."""
    outside = folder.parent / "secret.tif"
    url = f"http://127.0.0.1:{port}/a.tif"
    return [
        *(str(outside), "../secret.tif", "x/../../secret.tif", "..\\secret.tif", "up/secret.tif", "linked.tif"),
        *("nested.vrt", "dressed.dat", f"/vsicurl/{url}", f"/vsicurl?url={url}", f"/vsicurl_streaming/{url}", url),
        *(f"GTIFF_DIR:1:{outside}", f"vrt://{outside}", f"DERIVED_SUBDATASET:AMPLITUDE:{outside}"),
        *(f"/vsisubfile/0,{outside}", "&#47;vsicurl&#47;" + url),
        f"&lt;GDAL_WMS&gt;&lt;Service name='TMS'&gt;&lt;ServerUrl&gt;{url}&lt;/ServerUrl&gt;&lt;/Service&gt;"
        "&lt;/GDAL_WMS&gt;",
    ]


HARMLESS = source("a.tif")
WAYS = {
    "a source": lambda name: dataset(band(source(name))),
    "a path of its own": lambda name: dataset(band(source(name, relative="0"))),
    "a complex source": lambda name: dataset(band(source(name, kind="ComplexSource"))),
    "a filtered source": lambda name: dataset(band(source(name, kind="KernelFilteredSource"))),
    "another case": lambda name: dataset(band(f"<simplesource><sourcefilename>{name}</sourcefilename></simplesource>")),
    "an attribute": lambda name: dataset(
        band(f'<SimpleSource SourceFilename="{name}"><SourceBand>1</SourceBand></SimpleSource>')
    ),
    "an attribute of a harmless source": lambda name: dataset(
        band(HARMLESS.replace("<SimpleSource>", f'<SimpleSource sourcefilename="{name}">'))
    ),
    "a second name": lambda name: dataset(
        band(HARMLESS.replace("<SourceBand>", f"<SourceFilename>{name}</SourceFilename><SourceBand>"))
    ),
    "an element in the name": lambda name: dataset(
        band(HARMLESS.replace("a.tif<", f"a.tif<relativeToVRT>0</relativeToVRT>{name}<"))
    ),
    "a raw band": lambda name: dataset(
        band(f'<SourceFilename relativetoVRT="0">{name}</SourceFilename>', ' subClass="VRTRawRasterBand"')
    ),
    "a raw band by an element": lambda name: dataset(
        band(f"<subClass>VRTRawRasterBand</subClass><SourceFilename>{name}</SourceFilename>")
    ),
    "a mask": lambda name: dataset(band(HARMLESS) + f"<MaskBand>{band(source(name, relative='0'))}</MaskBand>"),
    "a warped one": lambda name: dataset(
        f"<GDALWarpOptions><SourceDataset>{name}</SourceDataset></GDALWarpOptions>", ' subClass="VRTWarpedDataset"'
    ),
    "a processed one": lambda name: dataset(
        f"<Input><SourceFilename>{name}</SourceFilename></Input>", ' subClass="VRTProcessedDataset"'
    ),
    "a pansharpened one": lambda name: dataset(
        f"<PansharpeningOptions><PanchroBand><SourceFilename>{name}</SourceFilename></PanchroBand>"
        "</PansharpeningOptions>",
        ' subClass="VRTPansharpenedDataset"',
    ),
    "an overview": lambda name: dataset(
        band(f"{HARMLESS}<Overview><SourceFilename>{name}</SourceFilename></Overview>")
    ),
    "an option": lambda name: dataset(
        band(HARMLESS.replace("<SourceBand>", f'<OpenOptions><OOI key="X">{name}</OOI></OpenOptions><SourceBand>'))
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_virtual_raster_that_leads_elsewhere_in_any_way_is_refused(folder, server, way):
    port, connections = server
    for number, name in enumerate(names(folder, port)):
        path = folder / f"{number}.vrt"
        path.write_text(WAYS[way](name))
        with pytest.raises(DataError) as error, open_raster(path) as opened:
            opened.read()
        assert "\n" not in str(error.value)
    assert not connections


PYTHON = "import os\ndef f(*a, **k): open(os.environ['EXECUTED'], 'w')"
FUNCTIONS = [
    "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
    f"<PixelFunctionCode>{PYTHON}</PixelFunctionCode>",
    "<PixelFunctionType>os.system</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>",
    "<PixelFunctionType>sum</PixelFunctionType>",
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=["code", "module", "built in"])
@pytest.mark.parametrize("kind", [' subClass="VRTDerivedRasterBand"', ' subclass="VRTDerivedRasterBand"', ""])
def test_functions_of_pixels_are_refused_and_not_run(folder, kind, function):
    path = folder / "function.vrt"
    path.write_text(dataset(band(function + HARMLESS, kind)))
    with (
        pytest.raises(DataError, match="does more than put pixels of other files together"),
        open_raster(path) as opened,
    ):
        opened.read()
    assert not os.path.exists(os.environ["EXECUTED"])


def test_metadata_that_names_overviews_is_dropped(folder, server):
    port, connections = server
    metadata = (
        f'<Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">/vsicurl/http://127.0.0.1:{port}/a</MDI></Metadata>'
    )
    path = folder / "overviews.vrt"
    path.write_text(dataset(metadata + band(metadata + HARMLESS)))
    with open_raster(path) as opened:
        assert opened.overviews(1) == []
        np.testing.assert_array_equal(opened.read(), random_image(1))
        assert opened.read(1, out_shape=(4, 4)).shape == (4, 4)
    assert not connections


def test_a_virtual_raster_that_reduces_pixels_is_refused(folder):
    """GDAL would look for overviews of the source."""
    write_tif(folder / "large.tif", random_image(1, size=2 * SIZE))
    for rectangles in ("", f'<SrcRect xOff="0" yOff="0" xSize="{2 * SIZE}" ySize="{2 * SIZE}"/>'):
        vrt(folder / "less.vrt", source("large.tif").replace("</SimpleSource>", f"{rectangles}</SimpleSource>"))
        with pytest.raises(DataError, match="reduces the pixels"):
            open_raster(folder / "less.vrt")


def test_what_gdal_itself_writes_is_read(folder):
    """Sizes, nodata, colours, masks and statistics, as gdal_translate and gdalbuildvrt write them."""
    image = random_image(3, 7)
    write_tif(folder / "b.tif", image, nodata=5, crs="EPSG:32633", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 4e6))
    from rasterio.shutil import copy

    with rasterio.open(folder / "b.tif") as opened:
        copy(opened, folder / "written.vrt", driver="VRT")
    read, valid = read_image(folder / "written.vrt")
    np.testing.assert_array_equal(read, image)
    assert valid is None
    with open_raster(folder / "written.vrt") as opened:
        assert opened.crs.to_epsg() == 32633
        assert opened.nodata == 5


OTHERS = {
    "a map service": "<GDAL_WMS><Service name='TMS'><ServerUrl>{url}</ServerUrl></Service></GDAL_WMS>",
    "a tile service": "<GDAL_WMTS><GetCapabilitiesUrl>{url}</GetCapabilitiesUrl></GDAL_WMTS>",
    "a tile index": "<GDALTileIndexDataset><IndexDataset>{secret}</IndexDataset></GDALTileIndexDataset>",
    "a virtual raster": dataset(band(source("{secret}", relative="0"))),
    "a label of planets": 'PDS_VERSION_ID = PDS3\n^IMAGE = "{secret}"\nLINES = 16\nEND\n',
    "a catalogue": '{{"stac_version": "1.0.0", "type": "Feature", "assets": {{"a": {{"href": "{url}"}}}}}}',
    "a product": '<Dimap_Document><Data_Access><DATA_FILE_PATH href="{secret}"/></Data_Access></Dimap_Document>',
    "a header of ERMapper": 'DatasetHeader Begin\n Version = "6.0"\n DataFile = "{secret}"\nDatasetHeader End\n',
    "a layer elsewhere": "<OGRVRTDataSource><OGRVRTLayer name='a'><SrcDataSource>{url}</SrcDataSource></OGRVRTLayer>"
    "</OGRVRTDataSource>",
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("suffix", [".tif", ".img", ".dat", ".jp2", ".png", ".xml", ".json", ""])
def test_other_formats_that_point_elsewhere_are_not_tried(folder, server, kind, suffix):
    port, connections = server
    path = folder / f"other{suffix}"
    text = OTHERS[kind].format(url=f"http://127.0.0.1:{port}/a", secret=folder.parent / "secret.tif")
    path.write_text(text)
    with pytest.raises(DataError, match="cannot read") as error:
        read_image(path)
    assert "\n" not in str(error.value)
    assert not connections


def test_an_imagine_file_whose_pixels_are_elsewhere_is_refused(folder):
    """HFA_USE_SPILL writes the pixels into a second file, which the first one names."""
    path = folder / "spilled.img"
    with rasterio.Env(), rasterio.open(path, "w", driver="HFA", count=1, height=SIZE, width=SIZE, dtype="uint16",
                                       USE_SPILL="YES") as file:  # fmt: skip
        file.write(random_image(1))
    np.testing.assert_array_equal(read_image(path)[0], random_image(1))
    spill = folder / "spilled.ige"
    spill.rename(folder.parent / "spilled.ige")
    name = b"spilled.ige\0"
    stored = path.read_bytes()
    assert stored.count(name) >= 1
    path.write_bytes(stored.replace(name, b"up/led1.ige\0"))
    (folder.parent / "spilled.ige").rename(folder.parent / "led1.ige")
    with pytest.raises(DataError, match=r"led1\.ige, which is not in its folder|cannot read"):
        read_image(path)


def test_a_virtual_raster_is_the_first_thing_that_a_process_opens(tmp_path):
    """GDAL registers its drivers only once an environment has started."""
    root = write_own_tiles(tmp_path, tiles=1)
    (root / "images" / "000.vrt").write_text(dataset(band(source("000.tif"))))
    code = (
        "from spectral_tl_bench.datasets.io.raster import read_image\n"
        f"print(read_image({str(root / 'images' / '000.vrt')!r})[0].sum())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (str(random_image(4)[0].sum()), "")
