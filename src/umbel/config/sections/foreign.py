"""Declarations: Celery's settings for systems that Umbel has no driver for."""

from typing import Any

from umbel.config.declaring import setting
from umbel.config.unused import NO_DRIVER


class ForeignSettings:
    """Systems without a driver: Celery's settings for result stores that Umbel has no driver for.

    They are accepted, so that a project's configuration loads, and have no effect.
    """

    arangodb_backend_settings: dict[str, Any] | None = setting(
        None, "Options of ArangoDB.", old="CELERY_ARANGODB_BACKEND_SETTINGS", ignored=NO_DRIVER
    )
    azureblockblob_container_name: str = setting(
        "celery", "Container in Azure Blob Storage.", old="AZUREBLOCKBLOB_CONTAINER_NAME", ignored=NO_DRIVER
    )
    azureblockblob_base_path: str = setting(
        "", "Path inside the Azure container.", old="AZUREBLOCKBLOB_BASE_PATH", ignored=NO_DRIVER
    )
    azureblockblob_connection_timeout: int = setting(
        20, "Seconds to connect to Azure.", old="AZUREBLOCKBLOB_CONNECTION_TIMEOUT", ignored=NO_DRIVER
    )
    azureblockblob_read_timeout: int = setting(
        120, "Seconds to read from Azure.", old="AZUREBLOCKBLOB_READ_TIMEOUT", ignored=NO_DRIVER
    )
    azureblockblob_retry_initial_backoff_sec: int = setting(
        2,
        "First pause before Azure is tried again, in seconds.",
        old="AZUREBLOCKBLOB_RETRY_INITIAL_BACKOFF_SEC",
        ignored=NO_DRIVER,
    )
    azureblockblob_retry_increment_base: int = setting(
        2, "Base by which that pause grows.", old="AZUREBLOCKBLOB_RETRY_INCREMENT_BASE", ignored=NO_DRIVER
    )
    azureblockblob_retry_max_attempts: int = setting(
        3, "Attempts at Azure.", old="AZUREBLOCKBLOB_RETRY_MAX_ATTEMPTS", ignored=NO_DRIVER
    )
    cosmosdbsql_database_name: str = setting(
        "celerydb", "Database in Azure Cosmos DB.", old="COSMOSDBSQL_DATABASE_NAME", ignored=NO_DRIVER
    )
    cosmosdbsql_collection_name: str = setting(
        "celerycol", "Collection in Azure Cosmos DB.", old="COSMOSDBSQL_COLLECTION_NAME", ignored=NO_DRIVER
    )
    cosmosdbsql_consistency_level: str = setting(
        "Session",
        "Consistency level at Azure Cosmos DB.",
        old="COSMOSDBSQL_CONSISTENCY_LEVEL",
        ignored=NO_DRIVER,
    )
    cosmosdbsql_max_retry_attempts: int = setting(
        9, "Attempts at Azure Cosmos DB.", old="COSMOSDBSQL_MAX_RETRY_ATTEMPTS", ignored=NO_DRIVER
    )
    cosmosdbsql_max_retry_wait_time: int = setting(
        30,
        "Longest wait for Azure Cosmos DB, in seconds.",
        old="COSMOSDBSQL_MAX_RETRY_WAIT_TIME",
        ignored=NO_DRIVER,
    )
    couchbase_backend_settings: dict[str, Any] | None = setting(
        None, "Options of Couchbase.", old="CELERY_COUCHBASE_BACKEND_SETTINGS", ignored=NO_DRIVER
    )
    elasticsearch_timeout: float | None = setting(
        None, "Seconds to wait for Elasticsearch.", old="CELERY_ELASTICSEARCH_TIMEOUT", ignored=NO_DRIVER
    )
    elasticsearch_max_retries: int | None = setting(
        None, "Attempts at Elasticsearch.", old="CELERY_ELASTICSEARCH_MAX_RETRIES", ignored=NO_DRIVER
    )
    elasticsearch_retry_on_timeout: bool | None = setting(
        None,
        "Ask another Elasticsearch node after a time-out.",
        old="CELERY_ELASTICSEARCH_RETRY_ON_TIMEOUT",
        ignored=NO_DRIVER,
    )
    elasticsearch_save_meta_as_text: bool = setting(
        True,
        "Save results in Elasticsearch as text instead of JSON.",
        old="CELERY_ELASTICSEARCH_SAVE_META_AS_TEXT",
        ignored=NO_DRIVER,
    )
    gcs_bucket: str | None = setting(None, "Bucket in Google Cloud Storage.", old="GCS_BUCKET", ignored=NO_DRIVER)
    gcs_project: str | None = setting(
        None, "Project of the Google Cloud Storage bucket.", old="GCS_PROJECT", ignored=NO_DRIVER
    )
    gcs_base_path: str = setting(
        "", "Path inside the Google Cloud Storage bucket.", old="GCS_BASE_PATH", ignored=NO_DRIVER
    )
    gcs_ttl: float = setting(
        0.0, "Seconds that objects are kept in Google Cloud Storage.", old="GCS_TTL", ignored=NO_DRIVER
    )
    s3_bucket: str | None = setting(None, "Bucket in Amazon S3.", old="S3_BUCKET", ignored=NO_DRIVER)
    s3_base_path: str | None = setting(None, "Path inside the S3 bucket.", old="S3_BASE_PATH", ignored=NO_DRIVER)
    s3_region: str | None = setting(None, "Region of the S3 bucket.", old="S3_REGION", ignored=NO_DRIVER)
    s3_endpoint_url: str | None = setting(
        None, "URL of another system that speaks S3.", old="S3_ENDPOINT_URL", ignored=NO_DRIVER
    )
    s3_access_key_id: str | None = setting(
        None, "Access key at S3.", old="S3_ACCESS_KEY_ID", secret=True, ignored=NO_DRIVER
    )
    s3_secret_access_key: str | None = setting(
        None, "Secret key at S3.", old="S3_SECRET_ACCESS_KEY", secret=True, ignored=NO_DRIVER
    )
