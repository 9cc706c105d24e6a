{{- define "pdfjob.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "pdfjob.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "pdfjob.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "pdfjob.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "pdfjob.serviceAccountName" -}}
{{- default (include "pdfjob.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- /* Name of cluster-wide objects: two releases of one name in two namespaces must not meet. */ -}}
{{- define "pdfjob.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "pdfjob.fullname" .) -}}
{{- end -}}

{{- define "pdfjob.s3Name" -}}
{{- printf "%s-s3" (include "pdfjob.fullname" .) -}}
{{- end -}}

{{- define "pdfjob.uninstallName" -}}
{{- printf "%s-uninstall" (include "pdfjob.fullname" .) -}}
{{- end -}}

{{- /* Name of the Secret with the S3 credentials; empty = none. */ -}}
{{- define "pdfjob.s3Secret" -}}
{{- if .Values.s3.embedded.enabled -}}
{{- default (include "pdfjob.s3Name" .) .Values.s3.embedded.existingSecret -}}
{{- else -}}
{{- .Values.s3.existingSecret -}}
{{- end -}}
{{- end -}}

{{- define "pdfjob.s3Endpoint" -}}
{{- if .Values.s3.embedded.enabled -}}
{{- printf "http://%s.%s.svc:%d" (include "pdfjob.s3Name" .) .Release.Namespace (int .Values.s3.embedded.port) -}}
{{- else -}}
{{- .Values.s3.endpoint -}}
{{- end -}}
{{- end -}}

{{- define "pdfjob.image" -}}
{{- printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}

{{- /* Labels of everything; arguments: root, component. */ -}}
{{- define "pdfjob.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{ include "pdfjob.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: pdfjob
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}

{{- define "pdfjob.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pdfjob.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- /* What Pod Security "restricted" asks of a pod; the user is the one of our images. */ -}}
{{- define "pdfjob.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "pdfjob.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "pdfjob.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- /* Where pods go; argument: the block of values that holds nodeSelector, tolerations, affinity. */ -}}
{{- define "pdfjob.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* Combinations that cannot work and that a JSON schema cannot say well. */ -}}
{{- define "pdfjob.check" -}}
{{- if and (not .Values.s3.embedded.enabled) (and .Values.s3.podEndpoint (not .Values.s3.endpoint)) -}}
{{- fail "s3.podEndpoint is set and s3.endpoint is not: set s3.endpoint, the URL as the operator reaches it" -}}
{{- end -}}
{{- if and .Values.crds.install (not .Values.crds.keep) (not .Values.uninstall.deletePdfJobs) -}}
{{- fail "crds.keep=false deletes the CRDs at uninstall, so uninstall.deletePdfJobs must be true: PdfJobs that are left would wait for ever for an operator to end them" -}}
{{- end -}}
{{- if and .Values.crds.install (not .Values.crds.keep) .Values.watchNamespaces -}}
{{- fail "crds.keep=false deletes the CRDs for the whole cluster, and with watchNamespaces the operator looks after a part of it only: set crds.keep=true and delete the CRDs by hand" -}}
{{- end -}}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.create=false needs serviceAccount.name" -}}
{{- end -}}
{{- if and (gt (int .Values.operator.replicas) 1) (not .Values.leaderElection.enabled) -}}
{{- fail "operator.replicas above 1 needs leaderElection.enabled: two operators would dispatch the same chunks" -}}
{{- end -}}
{{- if ne (empty .Values.s3.embedded.accessKey) (empty .Values.s3.embedded.secretKey) -}}
{{- fail "s3.embedded.accessKey and s3.embedded.secretKey go together" -}}
{{- end -}}
{{- end -}}
