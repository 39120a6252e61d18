#!/bin/sh
# Put a backup back into the service of docker-compose.yml: docker/restore.sh FOLDER
#
# What the database holds now is lost. Objects first, then the rows that name them; then migrations, so that a backup of an earlier
# version can be restored into this one. .env must have the keys that it had when the backup was made.
set -eu
folder=${1:?"usage: docker/restore.sh FOLDER"}
folder=$(cd "$folder" && pwd)
test -f "$folder/database.dump"

docker compose stop api relay worker worker-io
docker compose up --wait --detach postgres valkey seaweedfs
docker compose run --rm --no-deps -T --volume "$folder/objects:/backup:ro" api lustral operate import-objects /backup
docker compose exec -T postgres sh -c 'dropdb --if-exists --force --username="$POSTGRES_USER" "$POSTGRES_DB" && createdb --username="$POSTGRES_USER" "$POSTGRES_DB"'
docker compose exec -T postgres sh -c 'exec pg_restore --exit-on-error --single-transaction --no-owner --username="$POSTGRES_USER" --dbname="$POSTGRES_DB"' < "$folder/database.dump"
docker compose run --rm --no-deps -T api lustral operate migrate
docker compose run --rm --no-deps -T api lustral operate check-objects
docker compose up --wait --detach
