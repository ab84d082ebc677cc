"""One function applied to many items: in this process, in several processes (joblib's loky), or on a cluster (Ray, Dask)."""
