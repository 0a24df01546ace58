{{/* A value as a setting's text: Helm reads numbers as floats, and prints large ones with an exponent. */}}
{{- define "sluice.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{- int64 . -}}{{- else -}}{{- . -}}{{- end -}}
{{- end -}}

{{/*
Variables of a container, as a list. Takes root, needs, settings (of the service alone), session (seconds), instance (whether it is
a static member) and extra (a list of variables). Collected by name, so that none can come twice: with server-side apply
a name that comes twice is an error.
*/}}
{{- define "sluice.environment" -}}
{{- $values := .root.Values -}}
{{- $env := dict -}}
{{- range $name, $value := merge (deepCopy (default dict .settings)) $values.settings -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $_ := set $env (printf "SLUICE_%s" (upper $name)) (include "sluice.text" $value) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $env "SLUICE_DRAIN_S" (include "sluice.text" $values.drainSeconds) -}}
{{- with $values.kafka -}}
{{- $_ := set $env "SLUICE_KAFKA_BOOTSTRAP" (required "kafka.bootstrap is missing: set it to your Kafka servers, host:port,host:port" .bootstrap) -}}
{{- $_ := set $env "SLUICE_KAFKA_SECURITY_PROTOCOL" .securityProtocol -}}
{{- if hasPrefix "SASL_" .securityProtocol -}}
{{- $oauth := eq .sasl.mechanism "OAUTHBEARER" -}}
{{- $who := ternary .sasl.oauth.clientIdKey .sasl.usernameKey $oauth -}}
{{- if not .sasl.existingSecret -}}
{{- $what := ternary .sasl.oauth.clientSecretKey .sasl.passwordKey $oauth -}}
{{- fail (printf "kafka.securityProtocol is %s, which needs a user: set kafka.sasl.existingSecret to a Secret with the keys %s and %s" .securityProtocol $who $what) -}}
{{- end -}}
{{- $_ := set $env "SLUICE_KAFKA_SASL_MECHANISM" .sasl.mechanism -}}
{{- $user := dict "secretKeyRef" (dict "name" .sasl.existingSecret "key" $who) -}}
{{- if $oauth -}}
{{- with .sasl.oauth -}}
{{- $_ := set $env "SLUICE_KAFKA_OAUTH_TOKEN_URL" (required "kafka.sasl.oauth.tokenUrl is missing: set it to where the identity provider gives tokens for client credentials" .tokenUrl) -}}
{{- $_ := set $env "SLUICE_KAFKA_OAUTH_CLIENT_ID" $user -}}
{{- $_ := set $env "SLUICE_KAFKA_OAUTH_CLIENT_SECRET_FILE" "/run/secrets/sluice/kafka-password" -}}
{{- $_ := set $env "SLUICE_KAFKA_OAUTH_SCOPE" .scope -}}
{{- $_ := set $env "SLUICE_KAFKA_OAUTH_EXTENSIONS" .extensions -}}
{{- if or .ca.existingSecret .ca.existingConfigMap -}}
{{- $_ := set $env "SLUICE_KAFKA_OAUTH_CAFILE" "/run/secrets/sluice/kafka-oauth-ca.crt" -}}
{{- end -}}
{{- end -}}
{{- else -}}
{{- $_ := set $env "SLUICE_KAFKA_SASL_USERNAME" $user -}}
{{- $_ := set $env "SLUICE_KAFKA_SASL_PASSWORD_FILE" "/run/secrets/sluice/kafka-password" -}}
{{- end -}}
{{- end -}}
{{- if .tls.existingSecret -}}
{{- if not (hasSuffix "SSL" .securityProtocol) -}}
{{- fail (printf "kafka.tls.existingSecret names a certificate, but kafka.securityProtocol is %s: set it to SSL or SASL_SSL" .securityProtocol) -}}
{{- end -}}
{{- $_ := set $env "SLUICE_KAFKA_SSL_CERTFILE" "/run/secrets/sluice/kafka-client.crt" -}}
{{- $_ := set $env "SLUICE_KAFKA_SSL_KEYFILE" "/run/secrets/sluice/kafka-client.key" -}}
{{- if .tls.passwordKey -}}
{{- $_ := set $env "SLUICE_KAFKA_SSL_KEY_PASSWORD_FILE" "/run/secrets/sluice/kafka-client-password" -}}
{{- end -}}
{{- end -}}
{{- if or .ca.existingSecret .ca.existingConfigMap -}}
{{- $_ := set $env "SLUICE_KAFKA_SSL_CAFILE" "/run/secrets/sluice/kafka-ca.crt" -}}
{{- end -}}
{{- $_ := set $env "SLUICE_KAFKA_REPLICATION" (include "sluice.text" .replication) -}}
{{- $_ := set $env "SLUICE_KAFKA_SEND_PARTITIONS" (include "sluice.text" .sendPartitions) -}}
{{- $_ := set $env "SLUICE_KAFKA_LANE_PARTITIONS" (include "sluice.text" .lanePartitions) -}}
{{- $_ := set $env "SLUICE_KAFKA_WHEEL_PARTITIONS" (include "sluice.text" .wheelPartitions) -}}
{{- end -}}
{{- with .session -}}
{{- $_ := set $env "SLUICE_KAFKA_SESSION_TIMEOUT_S" (include "sluice.text" .) -}}
{{- end -}}
{{- if .instance -}}
{{/* The namespace too: members of one group are told apart by nothing else, and two releases may share a Kafka. */}}
{{- $_ := set $env "SLUICE_KAFKA_INSTANCE_ID" (printf "%s.$(SLUICE_NODE)" .root.Release.Namespace) -}}
{{- end -}}
{{- if has "clickhouse" .needs -}}
{{- with $values.clickhouse -}}
{{- $_ := set $env "SLUICE_CLICKHOUSE_URL" (required "clickhouse.url is missing: set it to your ClickHouse, https://host:8443" .url) -}}
{{- $_ := set $env "SLUICE_CLICKHOUSE_DATABASE" .database -}}
{{- $_ := set $env "SLUICE_CLICKHOUSE_USER" .user -}}
{{- if .existingSecret -}}
{{- $_ := set $env "SLUICE_CLICKHOUSE_PASSWORD_FILE" "/run/secrets/sluice/clickhouse-password" -}}
{{- end -}}
{{- if or .ca.existingSecret .ca.existingConfigMap -}}
{{- $_ := set $env "SLUICE_CLICKHOUSE_SSL_CAFILE" "/run/secrets/sluice/clickhouse-ca.crt" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if has "hashKey" .needs -}}
{{- $_ := required "hashKey.existingSecret is missing: make a Secret with a random hash-key before the first mail; changing it later breaks the link to earlier outcomes" $values.hashKey.existingSecret -}}
{{- $_ := set $env "SLUICE_HASH_KEY_FILE" "/run/secrets/sluice/hash-key" -}}
{{- end -}}
{{- if has "relay" .needs -}}
{{- $routes := list $values.mail.routes -}}
{{- if $values.test.enabled -}}
{{- $routes = prepend $routes (printf "helm-test.invalid=smtp://%s:2525?tls=none" (include "sluice.testHost" .root)) -}}
{{- end -}}
{{- $_ := set $env "SLUICE_ROUTES" (join "," $routes) -}}
{{- if $values.relayPassword.existingSecret -}}
{{- $_ := set $env "SLUICE_RELAY_PASSWORD_FILE" "/run/secrets/sluice/relay-password" -}}
{{- else if contains "password_ref" $values.mail.routes -}}
{{- fail "mail.routes names a relay with a password: set relayPassword.existingSecret to the Secret that holds it" -}}
{{- end -}}
{{- end -}}
{{- if has "smtp" .needs -}}
{{- $_ := set $env "SLUICE_EHLO_NAME" (required "mail.ehloName is missing: set it to the name that the addresses mail leaves from resolve to, and back" $values.mail.ehloName) -}}
{{- end -}}
{{- if and (has "rules" .needs) $values.rules -}}
{{- $_ := set $env "SLUICE_RULES_DIR" "/etc/sluice/rules" -}}
{{- end -}}
{{- if has "dkim" .needs -}}
{{- $_ := set $env "SLUICE_DKIM_KEYS_DIR" "/etc/sluice/dkim" -}}
{{- end -}}
{{- if .health -}}
{{- $_ := set $env "SLUICE_HEALTH_HOST" "0.0.0.0" -}}
{{- $_ := set $env "SLUICE_HEALTH_PORT" (include "sluice.text" $values.health.port) -}}
{{- end -}}
- name: SLUICE_NODE
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- range $name := keys $env | sortAlpha }}
{{- $value := get $env $name }}
- name: {{ $name }}
{{- if kindIs "map" $value }}
  valueFrom:
    {{- toYaml $value | nindent 4 }}
{{- else }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- $seen := list }}
{{- range .extra }}
{{- if hasPrefix "SLUICE_" .name }}
{{- fail (printf "extraEnv has %s: write it as settings.%s" .name (.name | trimPrefix "SLUICE_" | lower)) }}
{{- end }}
{{- if has .name $seen }}
{{- fail (printf "extraEnv has %s twice" .name) }}
{{- end }}
{{- $seen = append $seen .name }}
- {{ toYaml . | nindent 2 | trim }}
{{- end }}
{{- end -}}
