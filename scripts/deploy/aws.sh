#!/usr/bin/env bash
# A machine on AWS for a served model: the commands, with what each is for. NEVER RUN BY US: read it, and run it line by
# line. Names, sizes and the region are examples; what may leave the hospital at all is for the hospital to decide.
#
# What it makes: one machine without a public address, in a network of yours that reaches the internet in no way, with an
# encrypted disk, that is asked through your VPN and kept up through Systems Manager. What it costs: see `aws pricing`, or
# the calculator of AWS; for patients' data you need a business associate agreement (BAA) with AWS (AWS Artifact).
#
#   BUNDLE=s3://BUCKET/bundle.tar VPC=vpc-… SUBNET=subnet-… WARD=10.20.0.0/16 scripts/deploy/aws.sh --really
set -euo pipefail

if [ "${1:-}" != --really ]; then
  sed -n '2,/^set /p' "$0" | sed '$d; s/^# \{0,1\}//'
  exit 2
fi
: "${BUNDLE:?the bundle of scripts/bundle.sh, in a bucket of yours}"
: "${VPC:?the network}" "${SUBNET:?a subnet of it without a way to the internet}" "${WARD:?who may ask, as 10.20.0.0/16}"
region=${REGION:-eu-central-1}
# 16 GiB and 8 processors for a Q4 model of 7 billion parameters; with a GPU: g6.xlarge and kubernetes/gpu.yaml
kind=${KIND:-m7i.2xlarge}
aws="aws --region $region --output text"

# Only the ward may reach port 8080, and the machine reaches nothing but AWS's own endpoints in this network.
group=$($aws ec2 create-security-group --group-name medllm --description "medllm" --vpc-id "$VPC" --query GroupId)
$aws ec2 authorize-security-group-ingress --group-id "$group" --protocol tcp --port 8080 --cidr "$WARD"
$aws ec2 revoke-security-group-egress --group-id "$group" --protocol all --cidr 0.0.0.0/0
range=$($aws ec2 describe-vpcs --vpc-ids "$VPC" --query "Vpcs[0].CidrBlock")
$aws ec2 authorize-security-group-egress --group-id "$group" --protocol tcp --port 443 --cidr "$range"

# Ways to S3 and Systems Manager that do not leave AWS's network; a gateway for S3 also needs a route table.
for service in ssm ssmmessages ec2messages; do
  $aws ec2 create-vpc-endpoint --vpc-id "$VPC" --subnet-ids "$SUBNET" --security-group-ids "$group" \
    --vpc-endpoint-type Interface --service-name "com.amazonaws.$region.$service"
done

# Debian's own image, an encrypted disk, no metadata service of the old kind. The profile `medllm` is a role of yours with
# AmazonSSMManagedInstanceCore and leave to read the bundle.
image=$($aws ssm get-parameter --name /aws/service/debian/release/12/latest/amd64 --query Parameter.Value)
machine=$($aws ec2 run-instances --image-id "$image" --instance-type "$kind" --subnet-id "$SUBNET" \
  --security-group-ids "$group" --no-associate-public-ip-address --iam-instance-profile Name=medllm \
  --metadata-options HttpTokens=required --ebs-optimized \
  --block-device-mappings 'DeviceName=/dev/xvda,Ebs={VolumeSize=100,VolumeType=gp3,Encrypted=true}' \
  --tag-specifications 'ResourceType=instance,Tags=[{Key=Name,Value=medllm}]' --query 'Instances[0].InstanceId')
$aws ec2 wait instance-status-ok --instance-ids "$machine"

# From here on as on any closed machine: docs/deploy.md. Certificate and keys are put there by hand.
echo "aws --region $region ssm start-session --target $machine"
echo "  aws s3 cp $BUNDLE . && tar xf bundle.tar && bundle/install.sh /opt/medllm"
