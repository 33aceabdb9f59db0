#!/usr/bin/env bash
# A machine on Google Cloud for a served model: the commands, with what each is for. NEVER RUN BY US: read it, and run it
# line by line. Names, sizes and the zone are examples; what may leave the hospital at all is for the hospital to decide.
#
# What it makes: one machine without an external address, in a network that reaches the internet in no way, with a
# shielded boot, that is asked through your VPN and kept up through Identity-Aware Proxy. What it costs: see Google's
# calculator; for patients' data you need a business associate agreement (BAA) with Google.
#
#   PROJECT=… BUNDLE=gs://BUCKET/bundle.tar NETWORK=… SUBNET=… WARD=10.20.0.0/16 scripts/deploy/gcp.sh --really
set -euo pipefail

if [ "${1:-}" != --really ]; then
  sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//'
  exit 2
fi
: "${PROJECT:?the project}" "${BUNDLE:?the bundle of scripts/bundle.sh, in a bucket of yours}"
: "${NETWORK:?the network}" "${SUBNET:?a subnet of it}" "${WARD:?who may ask, as 10.20.0.0/16}"
zone=${ZONE:-europe-west3-a}
# 32 GiB and 8 processors; with a GPU: g2-standard-8 with --maintenance-policy=TERMINATE, and kubernetes/gpu.yaml
kind=${KIND:-n2-standard-8}
gcloud="gcloud --project $PROJECT --quiet compute"

# Only the ward may reach port 8080, and Identity-Aware Proxy SSH; the machine reaches Google's own addresses alone.
$gcloud firewall-rules create medllm-in --network "$NETWORK" --direction INGRESS --allow tcp:8080 \
  --source-ranges "$WARD" --target-tags medllm
$gcloud firewall-rules create medllm-ssh --network "$NETWORK" --direction INGRESS --allow tcp:22 \
  --source-ranges 35.235.240.0/20 --target-tags medllm
$gcloud firewall-rules create medllm-out-none --network "$NETWORK" --direction EGRESS --action DENY --rules all \
  --destination-ranges 0.0.0.0/0 --priority 65000 --target-tags medllm
$gcloud firewall-rules create medllm-out-google --network "$NETWORK" --direction EGRESS --action ALLOW \
  --rules tcp:443 --destination-ranges 199.36.153.8/30 --priority 1000 --target-tags medllm
$gcloud networks subnets update "$SUBNET" --region "${zone%-*}" --enable-private-ip-google-access

# Debian's own image, a shielded boot, no external address. The account `medllm` is one of yours that may read the bundle.
$gcloud instances create medllm --zone "$zone" --machine-type "$kind" --subnet "$SUBNET" --no-address --tags medllm \
  --image-family debian-12 --image-project debian-cloud --boot-disk-size 100GB --boot-disk-type pd-ssd \
  --shielded-secure-boot --shielded-vtpm --service-account "medllm@$PROJECT.iam.gserviceaccount.com" \
  --scopes https://www.googleapis.com/auth/devstorage.read_only

# From here on as on any closed machine: docs/deploy.md. Certificate and keys are put there by hand.
echo "gcloud --project $PROJECT compute ssh medllm --zone $zone --tunnel-through-iap"
echo "  gcloud storage cp $BUNDLE . && tar xf bundle.tar && bundle/install.sh /opt/medllm"
