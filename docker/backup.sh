#!/bin/sh
# Back up the service of docker-compose.yml while it runs: docker/backup.sh FOLDER
#
# The database first: what it names then is there to be copied after it. The other way round, rows could name objects that came
# too late for the copy. The keys of .env are not part of the backup: without them nothing in it can be used, so keep them elsewhere.
set -eu
folder=${1:?"usage: docker/backup.sh FOLDER"}
mkdir -p "$folder/objects"
folder=$(cd "$folder" && pwd)

docker compose exec -T postgres sh -c 'exec pg_dump --format=custom --username="$POSTGRES_USER" "$POSTGRES_DB"' > "$folder/database.dump.part"
mv "$folder/database.dump.part" "$folder/database.dump"
docker compose run --rm --no-deps -T --user "$(id -u)" --volume "$folder/objects:/backup" api lustral operate export-objects /backup
