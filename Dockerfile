# The application of docker-compose.yml: one image, one process a container.
FROM node:20-bookworm-slim AS browser-libraries
WORKDIR /source
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund

FROM python:3.11-slim-bookworm
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 BALLAST_DATA_DIR=/data NUMBA_CACHE_DIR=/data/numba
# PostgreSQL and Valkey are containers of their own here: base.txt, not embedded.txt.
COPY requirements/base.txt /tmp/base.txt
RUN pip install --no-cache-dir -r /tmp/base.txt \
    && useradd --create-home --uid 10001 ballast \
    && install -d -o ballast -g ballast /data
WORKDIR /application
COPY . .
COPY --from=browser-libraries \
    /source/node_modules/lightweight-charts/dist/lightweight-charts.standalone.production.js static/vendor/
COPY --from=browser-libraries \
    /source/node_modules/lightweight-charts/LICENSE static/vendor/lightweight-charts.LICENSE.txt
USER ballast
VOLUME /data
EXPOSE 8000
CMD ["daphne", "-b", "0.0.0.0", "-p", "8000", "platform_site.asgi:application"]
