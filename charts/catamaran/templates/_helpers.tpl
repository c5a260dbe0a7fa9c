{{- define "catamaran.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* 49 characters: room for "-webhook-tls" and the suffixes of pods. */}}
{{- define "catamaran.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 49 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 49 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 49 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "catamaran.selectorLabels" -}}
app.kubernetes.io/name: {{ include "catamaran.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "catamaran.labels" -}}
{{ include "catamaran.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "catamaran.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "catamaran.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Where the CA of the webhook's clients is; empty: anybody may ask. */}}
{{- define "catamaran.clientAuthority" -}}
{{- with .Values.webhook.clients }}
{{- if and .secretName .configMapName }}
{{- fail "webhook.clients takes its CA from secretName or from configMapName, not from both" }}
{{- end }}
{{- if and .names (not .secretName) (not .configMapName) }}
{{- fail "webhook.clients.names needs webhook.clients.secretName or webhook.clients.configMapName: without a CA no name can be checked" }}
{{- end }}
{{- or .secretName .configMapName }}
{{- end }}
{{- end }}

{{- define "catamaran.certificateSecret" -}}
{{- default (printf "%s-webhook-tls" (include "catamaran.fullname" .)) .Values.certificates.secretName }}
{{- end }}

{{- define "catamaran.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* Requests of the operator's service account alone. */}}
{{- define "catamaran.onlyOurselves" -}}
- name: ourselves
  expression: request.userInfo.username == 'system:serviceaccount:{{ .Release.Namespace }}:{{ include "catamaran.serviceAccountName" . }}'
{{- end }}

{{/* A list of names as a CEL expression. */}}
{{- define "catamaran.celList" -}}
{{ . | uniq | toJson | replace "\"" "'" }}
{{- end }}

{{/* A time such as 90m in seconds. */}}
{{- define "catamaran.seconds" -}}
{{- mul (regexFind "^[0-9]+" .) (get (dict "s" 1 "m" 60 "h" 3600) (regexFind "[hms]$" .)) }}
{{- end }}

{{/* What a schema can't say: values that only make sense together. */}}
{{- define "catamaran.validate" -}}
{{- if and (eq .Values.certificates.mode "secret") (not .Values.certificates.secretName) }}
{{- fail "certificates.secretName is needed with certificates.mode secret: the Secret with tls.crt, tls.key and ca.crt" }}
{{- end }}
{{- if eq .Values.certificates.mode "self" }}
{{- $lifetime := include "catamaran.seconds" .Values.certificates.lifetime | int64 }}
{{- $authority := include "catamaran.seconds" .Values.certificates.authorityLifetime | int64 }}
{{- if or (lt $lifetime 60) (gt $authority 315360000) }}
{{- fail "certificates.lifetime must be 60s or more, and certificates.authorityLifetime 87600h or less" }}
{{- end }}
{{- if lt $authority (mul 3 $lifetime) }}
{{- fail "certificates.authorityLifetime must be three times certificates.lifetime or more" }}
{{- end }}
{{- end }}
{{- if and .Values.certificates.certManager.issuerRef (not .Values.certificates.certManager.issuerRef.name) }}
{{- fail "certificates.certManager.issuerRef.name is needed: the Issuer or ClusterIssuer that signs" }}
{{- end }}
{{- if and .Values.azure.workloadIdentity.tenantId (not .Values.azure.workloadIdentity.clientId) }}
{{- fail "azure.workloadIdentity.clientId is needed with azure.workloadIdentity.tenantId" }}
{{- end }}
{{- if and (not .Values.serviceAccount.create) (or .Values.azure.workloadIdentity.clientId .Values.aws.roleArn) }}
{{- fail "azure.workloadIdentity and aws.roleArn annotate the chart's ServiceAccount: with serviceAccount.create false annotate yours, and set podLabels" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.enabled) }}
{{- fail "metrics.serviceMonitor needs the Service of metrics.enabled; metrics.podMonitor needs none" }}
{{- end }}
{{- if and (eq .Values.networkPolicy.webhookFrom "Peers") (not .Values.networkPolicy.webhookPeers) }}
{{- fail "networkPolicy.webhookPeers is needed with networkPolicy.webhookFrom Peers: without a peer no API server could call" }}
{{- end }}
{{- if and .Values.proxy.noProxy (not .Values.proxy.https) }}
{{- fail "proxy.https is needed with proxy.noProxy" }}
{{- end }}
{{- range .Values.extraArgs }}
{{- if hasPrefix "--certificates" . }}
{{- fail "extraArgs must not set --certificates: set certificates.mode, which also decides on rights" }}
{{- end }}
{{- if or (hasPrefix "--certificate-lifetime" .) (hasPrefix "--authority-lifetime" .) }}
{{- fail "extraArgs must not set the lifetimes of certificates: set certificates.lifetime and certificates.authorityLifetime" }}
{{- end }}
{{- end }}
{{- end }}
