#!/bin/sh
# Run once by the image of PostgreSQL, when its database is made: one database for Orthanc's index, one for orthanc-deid.
set -eu
for name in orthanc deid; do
	word=$(cat "/run/secrets/$name-database") # fails here when it cannot be read: never an empty password
	psql --quiet --username "$POSTGRES_USER" --set ON_ERROR_STOP=1 --set "name=$name" --set "word=$word" <<-'END'
		CREATE ROLE :"name" LOGIN PASSWORD :'word';
		CREATE DATABASE :"name" OWNER :"name";
	END
done
