# openunite on the CPU: docker build -t openunite . && docker run --rm -v "$PWD:/data" openunite sample fashion
FROM python:3.11-slim
COPY . /opt/openunite
RUN pip install --no-cache-dir -c /opt/openunite/constraints.txt \
    --extra-index-url https://download.pytorch.org/whl/cpu "/opt/openunite[molecules,crystals]"
WORKDIR /data
ENTRYPOINT ["openunite"]
CMD ["--help"]
