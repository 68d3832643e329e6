"""The programs of the Python data world, with real data, through dfs:// and through HTTP."""

import pickle
from pathlib import Path
from typing import Any

import fsspec
import pytest

from dfs.fsspec import DfsFileSystem

ROWS = 20_000

pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning", "default::FutureWarning")
"""Those of other people's programs about each other."""


def frame() -> Any:
    """A table with numbers, texts, times, and something to partition by."""
    pd, np = pytest.importorskip("pandas"), pytest.importorskip("numpy")
    rng = np.random.default_rng(7)
    return pd.DataFrame(
        {
            "id": np.arange(ROWS),
            "value": rng.normal(size=ROWS),
            "name": [f"naïve {n % 97}" for n in range(ROWS)],
            "time": pd.date_range("2024-01-01", periods=ROWS, freq="min"),
            "year": 2020 + np.arange(ROWS) % 4,
            "kind": rng.choice(["a", "b/c", "d e"], size=ROWS),
        }
    )


class Boom(Exception):
    """What goes wrong in the middle."""


# --- pandas ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_pandas_writes_and_reads_csv(url: str, name: str) -> None:
    pd, table = pytest.importorskip("pandas"), frame()
    table.to_csv(f"{url}/{name}", index=False)
    again = pd.read_csv(f"{url}/{name}", parse_dates=["time"])
    pd.testing.assert_frame_equal(again, table, check_dtype=False)


def test_pandas_that_fails_in_the_middle_leaves_the_old_file(url: str, dfs_fs: DfsFileSystem, home: str) -> None:
    pd = pytest.importorskip("pandas")
    table = frame()
    table.to_csv(f"{url}/t.csv", index=False)
    before = dfs_fs.info(f"{home}/t.csv")

    class Unprintable:
        def __str__(self) -> str:
            raise Boom

    broken = pd.DataFrame({"a": [*range(50_000), Unprintable()]}, dtype=object)
    with pytest.raises(Boom):
        broken.to_csv(f"{url}/t.csv", chunksize=1000)
    assert dfs_fs.info(f"{home}/t.csv") == before


def test_pandas_writes_and_reads_parquet(url: str) -> None:
    pd, table = pytest.importorskip("pandas"), frame()
    pytest.importorskip("pyarrow")
    table.to_parquet(f"{url}/t.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(f"{url}/t.parquet"), table)
    columns = pd.read_parquet(f"{url}/t.parquet", columns=["id", "name"], filters=[("id", "<", 10)])
    assert columns["id"].tolist() == list(range(10))


def test_pandas_writes_and_reads_partitioned_parquet(url: str, dfs_fs: DfsFileSystem, home: str) -> None:
    pd, table = pytest.importorskip("pandas"), frame()
    pytest.importorskip("pyarrow")
    table.to_parquet(f"{url}/t", partition_cols=["year", "kind"])
    assert len(dfs_fs.glob(f"{home}/t/year=*/kind=*/*.parquet")) == 12
    again = pd.read_parquet(f"{url}/t", filters=[("year", "==", 2021)])
    wanted = table[table["year"] == 2021]
    assert sorted(again["id"]) == sorted(wanted["id"])
    assert set(again["kind"].astype(str)) == {"a", "b/c", "d e"}


def test_the_namenode_can_be_a_storage_option(dfs_fs: DfsFileSystem, home: str) -> None:
    pd, table = pytest.importorskip("pandas"), frame()
    options = {"namenode": dfs_fs.client.url}
    table.to_csv(f"dfs://{home}/t.csv", index=False, storage_options=options)
    assert len(pd.read_csv(f"dfs://{home}/t.csv", storage_options=options)) == ROWS


# --- Arrow ----------------------------------------------------------------------------------------------------


def test_arrow_works_through_its_handler(dfs_fs: DfsFileSystem, home: str) -> None:
    pafs = pytest.importorskip("pyarrow.fs")
    arrow = pafs.PyFileSystem(pafs.FSSpecHandler(dfs_fs))
    arrow.create_dir(f"{home}/d/e", recursive=True)
    arrow.create_dir(f"{home}/d/e", recursive=True)
    with arrow.open_output_stream(f"{home}/d/a") as stream:
        stream.write(b"0123456789")
    with arrow.open_append_stream(f"{home}/d/a") as stream:
        stream.write(b"!")
    with arrow.open_input_file(f"{home}/d/a") as file:
        assert file.size() == 11
        file.seek(5)
        assert file.read(3) == b"567"
    info, missing = arrow.get_file_info([f"{home}/d/a", f"{home}/missing"])
    assert (info.type, info.size) == (pafs.FileType.File, 11)
    assert info.mtime is not None
    assert missing.type == pafs.FileType.NotFound
    arrow.copy_file(f"{home}/d/a", f"{home}/d/b")
    arrow.move(f"{home}/d/b", f"{home}/d/e/c")
    listed = arrow.get_file_info(pafs.FileSelector(f"{home}/d", recursive=True))
    assert sorted(found.path for found in listed) == [f"{home}/d/a", f"{home}/d/e", f"{home}/d/e/c"]
    arrow.delete_file(f"{home}/d/a")
    arrow.delete_dir_contents(f"{home}/d")
    assert dfs_fs.ls(f"{home}/d") == []
    arrow.delete_dir(f"{home}/d")
    assert not dfs_fs.exists(f"{home}/d")


def test_arrow_takes_a_url(url: str) -> None:
    pa, pafs, pq = (pytest.importorskip(f"pyarrow{name}") for name in ("", ".fs", ".parquet"))
    table = pa.Table.from_pandas(frame())
    filesystem, path = pafs.FileSystem.from_uri(f"fsspec+{url}/t.parquet")
    pq.write_table(table, path, filesystem=filesystem)
    assert pq.read_table(f"fsspec+{url}/t.parquet").equals(table)


def test_a_dataset_of_arrow_is_written_and_scanned_by_partition(dfs_fs: DfsFileSystem, home: str) -> None:
    pa, ds = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.dataset")
    table = pa.Table.from_pandas(frame())
    parts = ds.partitioning(pa.schema([("year", pa.int64())]), flavor="hive")
    ds.write_dataset(table, f"{home}/t", format="parquet", filesystem=dfs_fs, partitioning=parts)
    found = ds.dataset(f"{home}/t", filesystem=dfs_fs, partitioning="hive")
    assert found.count_rows() == ROWS
    assert found.count_rows(filter=ds.field("year") == 2022) == ROWS // 4
    again = ds.write_dataset(
        table, f"{home}/t", format="parquet", filesystem=dfs_fs, partitioning=parts,
        existing_data_behavior="delete_matching",
    )  # fmt: skip
    assert again is None
    assert ds.dataset(f"{home}/t", filesystem=dfs_fs, partitioning="hive").count_rows() == ROWS


def test_a_parquet_writer_whose_body_raises_publishes_nothing(dfs_fs: DfsFileSystem, home: str) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.Table.from_pandas(frame())
    with pytest.raises(Boom), pq.ParquetWriter(f"{home}/t.parquet", table.schema, filesystem=dfs_fs) as writer:  # noqa: PT012
        writer.write_table(table)
        raise Boom
    assert not dfs_fs.exists(f"{home}/t.parquet")


# --- dask -----------------------------------------------------------------------------------------------------


def test_dask_reads_and_writes_several_files(url: str, dfs_fs: DfsFileSystem, home: str) -> None:
    dd = pytest.importorskip("dask.dataframe")
    dask = pytest.importorskip("dask")
    table = frame()
    with dask.config.set(scheduler="threads", num_workers=2):
        parted = dd.from_pandas(table, npartitions=5)
        parted.to_csv(f"{url}/csv/part-*.csv", index=False)
        parted.to_parquet(f"{url}/parquet")
        assert len(dfs_fs.glob(f"{home}/csv/part-*.csv")) == 5
        blocks = dd.read_csv(f"{url}/csv/part-*.csv", blocksize=100_000)
        assert blocks.npartitions > 5
        assert int(blocks["id"].sum().compute()) == int(table["id"].sum())
        again = dd.read_parquet(f"{url}/parquet", columns=["id", "value"]).compute()
    assert again["value"].tolist() == table["value"].tolist()


def test_dask_reads_and_writes_from_other_processes(url: str) -> None:
    bag, dask = pytest.importorskip("dask.bag"), pytest.importorskip("dask")
    with dask.config.set(scheduler="processes", num_workers=2, **{"multiprocessing.context": "spawn"}):
        bag.from_sequence([f"line {n}" for n in range(1000)], npartitions=2).to_textfiles(f"{url}/bag-*.txt.gz")
        lines = bag.read_text(f"{url}/bag-*.txt.gz").map(str.strip).compute()
    assert lines == [f"line {n}" for n in range(1000)]


# --- zarr and xarray ------------------------------------------------------------------------------------------


def test_zarr_writes_and_reads_chunks(url: str, dfs_fs: DfsFileSystem, home: str) -> None:
    zarr, np = pytest.importorskip("zarr"), pytest.importorskip("numpy")
    data = np.arange(200 * 300, dtype="float32").reshape(200, 300)
    store = zarr.storage.FsspecStore.from_url(f"{url}/a.zarr")
    group = zarr.open_group(store, mode="w")
    array = group.create_array("x", shape=data.shape, chunks=(50, 100), dtype=data.dtype)
    array[:] = data
    array[10:20, 10:20] = 0
    data[10:20, 10:20] = 0
    again = zarr.open_group(f"{url}/a.zarr", mode="r")["x"]
    np.testing.assert_array_equal(again[:], data)
    np.testing.assert_array_equal(again[40:60, 90:110], data[40:60, 90:110])
    assert len([path for path in dfs_fs.find(f"{home}/a.zarr") if "/c/" in path]) == 12


def test_zarr_reads_ranges_of_shards(url: str) -> None:
    zarr, np = pytest.importorskip("zarr"), pytest.importorskip("numpy")
    data = np.arange(400 * 400, dtype="int32").reshape(400, 400)
    array = zarr.create_array(f"{url}/s.zarr", shape=data.shape, chunks=(20, 20), shards=(200, 200), dtype=data.dtype)
    array[:] = data
    again = zarr.open_array(f"{url}/s.zarr", mode="r")
    np.testing.assert_array_equal(again[195:215, 5:45], data[195:215, 5:45])


def test_xarray_writes_appends_and_reads_zarr(url: str) -> None:
    xr, np = pytest.importorskip("xarray"), pytest.importorskip("numpy")
    pytest.importorskip("zarr")
    days = np.arange("2024-01-01", "2024-01-31", dtype="datetime64[D]").astype("datetime64[ns]")
    data = xr.Dataset(
        {"t2m": (("time", "x"), np.random.default_rng(1).normal(size=(30, 40)))}, coords={"time": days, "x": range(40)}
    )
    data.isel(time=slice(0, 20)).to_zarr(f"{url}/w.zarr", mode="w", consolidated=False)
    data.isel(time=slice(20, 30)).to_zarr(f"{url}/w.zarr", append_dim="time", consolidated=False)
    with xr.open_zarr(f"{url}/w.zarr", chunks=None, consolidated=False) as again:
        xr.testing.assert_allclose(again.load(), data)


# --- DuckDB ---------------------------------------------------------------------------------------------------


def test_duckdb_reads_globs_and_copies(dfs_fs: DfsFileSystem, home: str) -> None:
    duckdb, table = pytest.importorskip("duckdb"), frame()
    with duckdb.connect() as connection:
        connection.register_filesystem(dfs_fs)
        connection.register("t", table)
        base = f"dfs://{home}"
        connection.execute(f"copy (select * from t) to '{base}/one.parquet' (format parquet)")
        connection.execute(f"copy (select * from t) to '{base}/one.csv' (header)")
        total = int(table["id"].sum())
        for name in ("one.parquet", "one.csv"):
            assert connection.execute(f"select sum(id) from '{base}/{name}'").fetchone() == (total,)
        dfs_fs.makedirs(f"{home}/tree")
        for year in sorted(set(table["year"])):
            dfs_fs.makedirs(f"{home}/tree/y{year}/deep")
            connection.execute(
                f"copy (select * from t where year = {year}) to '{base}/tree/y{year}/deep/p.parquet' (format parquet)"
            )
        found = connection.execute(f"select count(*), sum(id) from read_parquet('{base}/tree/**/*.parquet')")
        assert found.fetchone() == (ROWS, total)
        one = connection.execute(f"select count(*) from read_parquet('{base}/tree/y202[01]/*/p.parquet')")
        assert one.fetchone() == (ROWS // 2,)


# --- polars ---------------------------------------------------------------------------------------------------


def test_polars_works_on_file_objects_and_on_our_http_urls(url: str, dfs_fs: DfsFileSystem, home: str) -> None:
    pl, table = pytest.importorskip("polars"), frame()
    data = pl.from_pandas(table)
    with fsspec.open(f"{url}/t.parquet", "wb") as file:
        data.write_parquet(file)
    with fsspec.open(f"{url}/t.parquet", "rb") as file:
        assert pl.read_parquet(file).equals(data)
    assert pl.read_parquet(dfs_fs.sign(f"{home}/t.parquet"), use_pyarrow=False).equals(data)
    lazy = pl.scan_parquet(dfs_fs.sign(f"{home}/t.parquet")).filter(pl.col("year") == 2023).select("id")
    assert sorted(lazy.collect()["id"]) == sorted(table[table["year"] == 2023]["id"])


# --- checkpoints ----------------------------------------------------------------------------------------------


def test_a_checkpoint_is_written_as_torch_does(url: str) -> None:
    """The calls of torch.distributed.checkpoint's FsspecWriter and FsspecReader, in their order."""
    fs, path = fsspec.core.url_to_fs(f"{url}/checkpoint")
    fs.makedirs(path, exist_ok=True)
    for rank in range(2):
        with fs.transaction, fs.open(f"{path}/__{rank}_0.distcp", "wb") as stream:
            pickle.dump(list(range(1000)), stream)
    with fs.open(f"{path}/.metadata.tmp", "wb") as stream:
        pickle.dump({"version": 1}, stream)
    if fs.exists(f"{path}/.metadata"):
        fs.rm(f"{path}/.metadata")
    fs.rename(f"{path}/.metadata.tmp", f"{path}/.metadata")
    assert sorted(fs.ls(path, detail=False)) == [f"{path}/.metadata", f"{path}/__0_0.distcp", f"{path}/__1_0.distcp"]
    with fs.open(f"{path}/__1_0.distcp", "rb") as stream:
        stream.seek(0)
        assert pickle.load(stream)[-1] == 999
    fs.rm(path, recursive=True)
    assert not fs.exists(path)


# --- paths ----------------------------------------------------------------------------------------------------


def test_a_universal_path_is_a_path(url: str, dfs_fs: DfsFileSystem, home: str, tmp_path: Path) -> None:
    upath = pytest.importorskip("upath")
    root = upath.UPath(url)
    assert type(root).__name__ == "DfsPath"
    assert (str(root), root.path) == (url, home)
    below = root / "a" / "b.txt"
    below.parent.mkdir(parents=True, exist_ok=True)
    assert below.write_text("één", encoding="utf-8") == 3
    assert below.read_text(encoding="utf-8") == "één"
    assert (below.name, below.suffix, below.stat().st_size) == ("b.txt", ".txt", 5)
    assert below.is_file()
    assert below.parent.is_dir()
    assert str(below.parent.parent) == url
    assert [str(path) for path in root.glob("**/*.txt")] == [str(below)]
    assert [str(path) for path in root.iterdir()] == [f"{url}/a"]
    with pytest.raises(FileExistsError):
        (root / "a").mkdir()
    moved = below.rename(root / "a" / "c.txt")
    assert moved.exists()
    assert not below.exists()
    assert str(pickle.loads(pickle.dumps(moved))) == str(moved)
    assert upath.UPath(str(moved)) == moved
    moved.unlink()
    (root / "a").rmdir()
    assert dfs_fs.ls(home) == []
