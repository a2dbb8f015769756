#!/bin/sh
# Run once by the image of PostgreSQL, when its database is made: one database for Orthanc's index, one for orthanc-deid.
set -eu
for name in orthanc deid; do
	psql --quiet --username "$POSTGRES_USER" --set "name=$name" --set "word=$(cat "/run/secrets/$name-database")" <<-'END'
		CREATE ROLE :"name" LOGIN PASSWORD :'word';
		CREATE DATABASE :"name" OWNER :"name";
	END
done
