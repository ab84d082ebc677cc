# docker build -t ssmspec . && docker run --rm -v "$PWD:/data" ssmspec model.safetensors
# This image has not been built: the tests run its RUN and ENTRYPOINT lines in a fresh environment.
FROM python:3.12-slim
WORKDIR /source
COPY pyproject.toml README.md LICENSE hatch_build.py ./
COPY ssmspec ssmspec
RUN python -m pip install --no-cache-dir .
WORKDIR /data
ENTRYPOINT ["ssmspec", "analyze"]
