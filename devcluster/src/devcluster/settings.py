"""Addresses and names of the local cluster: constants, in one place."""

NODE_NAME = "pdfjob-local"
NODE_ADDRESS = "10.245.0.1"
NODE_INTERFACE = "pdfjob-node"
"""A bridge without ports: some kernels have no dummy device."""
POD_NETWORK = "10.244.0.0/16"
POD_SUBNET = "10.244.0.0/24"
SERVICE_NETWORK = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
DNS_ADDRESS = "10.96.0.10"
CLUSTER_DOMAIN = "cluster.local"
CNI_NETWORK = "pdfjob-devcluster"
"""Name in CNI's records and iptables comments: it marks what is ours."""
RULE_COMMENT = "pdfjob-devcluster"

API_PORT = 6443
ETCD_PORT = 2379
ETCD_PEER_PORT = 2380
KUBELET_PORT = 10250

API_SERVER = f"https://{NODE_ADDRESS}:{API_PORT}"
NAMESPACE = "devcluster"
"""Where the readiness probe's pod runs."""

STORAGE_CLASS = "local-folder"
PROVISIONER = "pdfjob.dev/local-folder"
PROVISIONER_USER = "devcluster:volume-provisioner"

CONTROLLER_QPS = 100
"""Requests a second of controller manager and scheduler (default 20 and 50): a Job's life takes
several requests, and the default would be the bottleneck from about three Jobs a second."""
CONTROLLER_BURST = 200
JOB_SYNCS = 20
"""``--concurrent-job-syncs`` (default 5)."""
