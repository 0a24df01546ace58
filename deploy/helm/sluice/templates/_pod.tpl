{{/* The files of one source of a projected volume; nothing when neither a Secret nor a ConfigMap is named. */}}
{{- define "sluice.file" -}}
{{- if .existingSecret }}
- secret:
    name: {{ .existingSecret }}
    items:
      - key: {{ .key }}
        path: {{ .path }}
{{- else if .existingConfigMap }}
- configMap:
    name: {{ .existingConfigMap }}
    items:
      - key: {{ .key }}
        path: {{ .path }}
{{- end }}
{{- end -}}

{{/* Secrets that a container is given as files, by its needs: sources of a projected volume. */}}
{{- define "sluice.secretFiles" -}}
{{- $values := .root.Values -}}
{{- if hasPrefix "SASL_" $values.kafka.securityProtocol }}
{{- $oauth := eq $values.kafka.sasl.mechanism "OAUTHBEARER" }}
{{- $secretKey := ternary $values.kafka.sasl.oauth.clientSecretKey $values.kafka.sasl.passwordKey $oauth }}
{{- include "sluice.file" (dict "existingSecret" $values.kafka.sasl.existingSecret "key" $secretKey "path" "kafka-password") }}
{{- if $oauth }}
{{- include "sluice.file" (merge (dict "path" "kafka-oauth-ca.crt") $values.kafka.sasl.oauth.ca) }}
{{- end }}
{{- end }}
{{- with $values.kafka.tls }}
{{- if .existingSecret }}
{{- include "sluice.file" (dict "existingSecret" .existingSecret "key" .certKey "path" "kafka-client.crt") }}
{{- include "sluice.file" (dict "existingSecret" .existingSecret "key" .keyKey "path" "kafka-client.key") }}
{{- if .passwordKey }}
{{- include "sluice.file" (dict "existingSecret" .existingSecret "key" .passwordKey "path" "kafka-client-password") }}
{{- end }}
{{- end }}
{{- end }}
{{- include "sluice.file" (merge (dict "path" "kafka-ca.crt") $values.kafka.ca) }}
{{- if has "clickhouse" .needs }}
{{- include "sluice.file" (dict "existingSecret" $values.clickhouse.existingSecret "key" $values.clickhouse.passwordKey "path" "clickhouse-password") }}
{{- include "sluice.file" (merge (dict "path" "clickhouse-ca.crt") $values.clickhouse.ca) }}
{{- end }}
{{- if has "hashKey" .needs }}
{{- include "sluice.file" (merge (dict "path" "hash-key") $values.hashKey) }}
{{- end }}
{{- if has "relay" .needs }}
{{- include "sluice.file" (merge (dict "path" "relay-password") $values.relayPassword) }}
{{- end }}
{{- end -}}

{{- define "sluice.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
{{- if include "sluice.secretFiles" . | trim }}
- name: secrets
  mountPath: /run/secrets/sluice
  readOnly: true
{{- end }}
{{- if has "dkim" .needs }}
- name: dkim
  mountPath: /etc/sluice/dkim
  readOnly: true
{{- end }}
{{- if and (has "rules" .needs) .root.Values.rules }}
- name: rules
  mountPath: /etc/sluice/rules
  readOnly: true
{{- end }}
{{- end -}}

{{- define "sluice.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- with include "sluice.secretFiles" . | trim }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- . | nindent 6 }}
{{- end }}
{{- if has "dkim" .needs }}
- name: dkim
  {{- if .root.Values.dkim.keys }}
  projected:
    defaultMode: 0440
    sources:
      {{- range .root.Values.dkim.keys }}
      {{- include "sluice.file" (dict "existingSecret" .existingSecret "key" .key "path" (printf "%s/%s.pem" .domain .selector)) | nindent 6 | replace "\n      \n" "\n" }}
      {{- end }}
  {{- else }}
  emptyDir:
    sizeLimit: 1Mi
  {{- end }}
{{- end }}
{{- if and (has "rules" .needs) .root.Values.rules }}
- name: rules
  configMap:
    name: {{ default (printf "%s-rules" (include "sluice.fullname" .root)) .rules }}
{{- end }}
{{- end -}}

{{/* What every pod has, hooks and tests too. */}}
{{- define "sluice.podSecurity" -}}
automountServiceAccountToken: false
# Kubernetes would add SLUICE_*_PORT and the like for the Services of the namespace, and unknown settings are an error.
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- end -}}

{{/* What every container has. */}}
{{- define "sluice.container" -}}
image: {{ include "sluice.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.containerSecurityContext | nindent 2 }}
{{- end -}}
