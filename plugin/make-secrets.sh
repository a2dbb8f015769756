#!/bin/sh
# Makes the secrets of docker-compose.yml in the folder `secrets`: users and passwords of both Orthancs, and how the
# clinical one signs in at the research one. Every password is new and random; none is ever shipped.
#
#   sh plugin/make-secrets.sh [FOLDER]
#
# A folder that exists already is left as it is: its passwords may be in use.
set -eu
umask 077

folder=${1:-secrets}
if ! mkdir "$folder" 2>/dev/null; then
	echo "make-secrets.sh: $folder is there already; nothing was changed" >&2
	exit 1
fi

word() { od -An -N18 -tx1 /dev/urandom | tr -d ' \n'; }
clinical=$(word)
research=$(word)
gateway=$(word)
service=$(word)
orthanc_database=$(word)

cat >"$folder/clinical.json" <<END
{
  "RegisteredUsers": { "admin": "$clinical" },
  "OrthancPeers": {
    "research": { "Url": "http://research:8042/", "Username": "gateway", "Password": "$gateway" }
  }
}
END
cat >"$folder/research.json" <<END
{
  "RegisteredUsers": { "admin": "$research", "gateway": "$gateway" }
}
END
# For the profile `scale`.
cat >"$folder/scale.json" <<END
{
  "RegisteredUsers": { "admin": "$clinical", "service": "$service" },
  "OrthancPeers": {
    "research": { "Url": "http://research:8042/", "Username": "gateway", "Password": "$gateway" }
  },
  "PostgreSQL": { "Password": "$orthanc_database" }
}
END
printf '%s' "$service" >"$folder/orthanc-service"
printf '%s' "$orthanc_database" >"$folder/orthanc-database"
word >"$folder/deid-database"
word >"$folder/postgres"
# PostgreSQL's image makes the databases as a user of its own; nobody else enters the folder.
chmod 644 "$folder/orthanc-database" "$folder/deid-database"
echo "make-secrets.sh: user admin; the passwords are in $folder/clinical.json and $folder/research.json"
